"""Reading rotary settings out of a config.json, in the older and the newer Hugging Face layout."""

from __future__ import annotations

from generator.errors import UnsupportedModel
from generator.model.config import RopeScaling
from generator.model.fields import ConfigFields

_KINDS = ("default", "linear", "llama3", "yarn")


def rope_settings(fields: ConfigFields, default_theta: float) -> tuple[float, RopeScaling | None, int]:
    """Base wavelength, scaling and context length.

    Newer files nest everything under rope_parameters; older ones have rope_theta beside rope_scaling, whose
    kind was once called type.
    """
    max_positions = fields.integer("max_position_embeddings")
    nested = fields.object("rope_parameters") or fields.object("rope_scaling")
    theta = fields.number("rope_theta", default_theta)
    if nested is None:
        return theta, None, max_positions
    theta = nested.number("rope_theta", theta)
    kind = nested.text("rope_type", nested.text("type", "default"))
    if kind not in _KINDS:
        raise UnsupportedModel(
            f"The rotary scaling {kind!r} is not supported.", hint=f"Supported are {', '.join(_KINDS)}."
        )
    partial = nested.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0))
    if partial != 1.0:
        raise UnsupportedModel(f"Rotating only {partial:g} of each head is not supported.")
    if kind == "default":
        return theta, None, max_positions
    original = fields.integer(
        "original_max_position_embeddings", nested.integer("original_max_position_embeddings", max_positions)
    )
    if kind == "linear":
        return theta, RopeScaling("linear", nested.number("factor")), max_positions
    if kind == "llama3":
        return theta, _llama3(nested, original), max_positions
    scaling = _yarn(nested, original, max_positions)
    # Checkpoints that ask for YaRN often keep stating their pretraining length.
    return theta, scaling, max(max_positions, int(scaling.factor * original))


def _llama3(nested: ConfigFields, original: int) -> RopeScaling:
    return RopeScaling(
        "llama3",
        nested.number("factor"),
        original_max_positions=original,
        low_freq_factor=nested.number("low_freq_factor"),
        high_freq_factor=nested.number("high_freq_factor"),
    )


def _yarn(nested: ConfigFields, original: int, max_positions: int) -> RopeScaling:
    return RopeScaling(
        "yarn",
        nested.number("factor", max_positions / original),
        original_max_positions=original,
        beta_fast=nested.optional_number("beta_fast") or 32.0,
        beta_slow=nested.optional_number("beta_slow") or 1.0,
        attention_factor=nested.optional_number("attention_factor"),
        mscale=nested.optional_number("mscale"),
        mscale_all_dim=nested.optional_number("mscale_all_dim"),
        truncate=nested.boolean("truncate", True),
    )
