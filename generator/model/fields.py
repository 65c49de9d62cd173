"""Typed reading of a foreign config.json: absent, null and wrong-typed fields are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from generator.errors import InvalidModelConfig

_REQUIRED = object()


class ConfigFields:
    """A JSON object whose fields are asked for by type; what does not fit is an `InvalidModelConfig`."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def get(self, name: str) -> Any:
        """The raw value, None when absent."""
        return self._data.get(name)

    def integer(self, name: str, default: Any = _REQUIRED) -> int:
        """A whole number."""
        value = self._value(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(name, value, "a whole number")
        return value

    def optional_integer(self, name: str, default: int | None) -> int | None:
        """A whole number; null means none, absence means the default."""
        if name in self._data and self._data[name] is None:
            return None
        return default if name not in self._data else self.integer(name)

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """A number."""
        value = self._value(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong(name, value, "a number")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """A number, None when absent or null."""
        return None if self._data.get(name) is None else self.number(name)

    def boolean(self, name: str, default: Any = _REQUIRED) -> bool:
        """True or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        """A string."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "text")
        return value

    def array(self, name: str) -> list[Any] | None:
        """A list, None when absent or null."""
        value = self._data.get(name)
        if value is not None and not isinstance(value, list):
            raise self._wrong(name, value, "a list")
        return value

    def object(self, name: str) -> ConfigFields | None:
        """A nested object, None when absent or null."""
        value = self._data.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self._wrong(name, value, "an object")
        return None if value is None else ConfigFields(value)

    def _value(self, name: str, default: Any) -> Any:
        value = self._data.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise InvalidModelConfig(
                f"The model's config.json has no field {name!r}.", hint="Check that the folder is complete."
            )
        return default

    def _wrong(self, name: str, value: object, expected: str) -> InvalidModelConfig:
        return InvalidModelConfig(
            f"The field {name!r} of the model's config.json is {value!r}, not {expected}."
        )
