"""What can go wrong in the generator."""

from __future__ import annotations


class GeneratorError(Exception):
    """Base of the generator package's errors: one sentence of cause, one of remedy, and a stable code."""

    code = "generator-error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UnknownDevice(GeneratorError):
    """A device name that means nothing here."""

    code = "unknown-device"


class DeviceUnavailable(GeneratorError):
    """A device that exists in principle but not on this machine."""

    code = "device-unavailable"


class UnknownDtype(GeneratorError):
    """A dtype name that means nothing here."""

    code = "unknown-dtype"


class UnknownQuantization(GeneratorError):
    """A quantisation name that means nothing here."""

    code = "unknown-quantization"


class OutOfMemory(GeneratorError):
    """A model does not fit into the memory of its device."""

    code = "out-of-memory"


class ModelNotFound(GeneratorError):
    """Neither a folder nor a model that the hub serves."""

    code = "model-not-found"


class HubUnavailable(GeneratorError):
    """A hub name was asked for, the hub cannot be reached, and the local cache does not hold the model."""

    code = "hub-unavailable"


class InvalidModelConfig(GeneratorError):
    """A model configuration contradicts itself or cannot be read."""

    code = "invalid-model-config"


class UnsupportedModel(GeneratorError):
    """A well-formed checkpoint of a kind that this transformer does not implement."""

    code = "unsupported-model"


class WeightsMissing(GeneratorError):
    """A model folder lacks weight files or tensors."""

    code = "weights-missing"


class WeightsCorrupt(GeneratorError):
    """A weight file is truncated or is not what its name says."""

    code = "weights-corrupt"


class WeightsMismatch(GeneratorError):
    """The tensors of a checkpoint are not those that its configuration calls for."""

    code = "weights-mismatch"


class PickledWeights(GeneratorError):
    """Weights come only in a format that can run code when it is read."""

    code = "pickled-weights"


class InvalidTokenizer(GeneratorError):
    """Tokenizer files that cannot be read or do not fit the model."""

    code = "invalid-tokenizer"


class TokenizerMissing(GeneratorError):
    """Text was given or asked for, but the model folder has no tokenizer."""

    code = "tokenizer-missing"


class ChatTemplateFailed(GeneratorError):
    """A checkpoint's chat template cannot be parsed or refuses the conversation."""

    code = "chat-template-failed"


class InvalidAdapter(GeneratorError):
    """A LoRA adapter that cannot be read or does not fit the model."""

    code = "invalid-adapter"


class InvalidSampling(GeneratorError):
    """A sampling option outside its range."""

    code = "invalid-sampling"


class InvalidPrompt(GeneratorError):
    """A prompt that is empty or holds tokens that the model does not know."""

    code = "invalid-prompt"


class PromptTooLong(GeneratorError):
    """A prompt that leaves no room in the model's context."""

    code = "prompt-too-long"


class CacheFull(GeneratorError):
    """More tokens than the pre-allocated key/value cache has room for."""

    code = "cache-full"


class NonFiniteLogits(GeneratorError):
    """The model computed NaN or infinity instead of scores."""

    code = "non-finite-logits"


class NoTokenAllowed(GeneratorError):
    """A constraint that leaves no token to go on with."""

    code = "no-token-allowed"


class InvalidEngineConfig(GeneratorError):
    """Engine settings that contradict each other or are out of range."""

    code = "invalid-engine-config"


class InvalidRequest(GeneratorError):
    """A request that says too little, too much, or uses an id that is taken."""

    code = "invalid-request"


class StepFailed(GeneratorError):
    """A forward pass of the engine raised something unforeseen."""

    code = "step-failed"


class CompilerUnavailable(GeneratorError):
    """PyTorch's compiler does not work on this machine."""

    code = "compiler-unavailable"


class UnsupportedOperation(GeneratorError):
    """Something this generator cannot do by its nature."""

    code = "unsupported-operation"
