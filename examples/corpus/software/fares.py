"""Fares of the Senn Ferry Company, as they are printed on the boards since 1 January 2025.

Money is in whole pence. The rules are those of the fares order that the board approved in October 2024:

* a child from 5 to 15 years pays half the adult fare, and a child under five travels free;
* a car longer than five metres pays a surcharge for each further metre that it has begun;
* after 21:00 every paid ticket carries the night supplement;
* a ten-trip card costs as much as eight singles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import time

ADULT_PENCE = 280
BICYCLE_PENCE = 100
CAR_PENCE = 940
CAR_INCLUDED_METRES = 5
CAR_EXTRA_METRE_PENCE = 160
NIGHT_SUPPLEMENT_PENCE = 60
NIGHT_BEGINS = time(21, 0)


class UnknownVehicleError(ValueError):
    """A vehicle that the ferry does not carry, such as a lorry of more than 7.5 tonnes."""


@dataclass(frozen=True, slots=True)
class Party:
    """The people and bicycles that share one ticket."""

    adults: int = 0
    child_ages: tuple[int, ...] = ()
    bicycles: int = 0

    def __post_init__(self) -> None:
        if self.adults < 0 or self.bicycles < 0 or any(age < 0 for age in self.child_ages):
            raise ValueError("A party cannot have fewer than zero people, years or bicycles.")


def child_fare(age: int) -> int:
    """Pence for one child of this age.

    >>> [child_fare(age) for age in (4, 5, 15, 16)]
    [0, 140, 140, 280]
    """
    if age < 5:
        return 0
    return ADULT_PENCE // 2 if age <= 15 else ADULT_PENCE


def single_fare(party: Party, *, departure: time) -> int:
    """Pence for one crossing of a party on foot or on bicycles.

    >>> single_fare(Party(adults=2, child_ages=(3, 8), bicycles=1), departure=time(14, 30))
    800
    >>> single_fare(Party(adults=1), departure=time(22, 20))
    340
    """
    tickets = [ADULT_PENCE] * party.adults + [child_fare(age) for age in party.child_ages]
    tickets += [BICYCLE_PENCE] * party.bicycles
    supplement = NIGHT_SUPPLEMENT_PENCE if departure >= NIGHT_BEGINS else 0
    return sum(pence + supplement for pence in tickets if pence > 0)


def car_fare(length_metres: float, *, mass_tonnes: float = 1.5) -> int:
    """Pence for one crossing of a car with its driver by day.

    >>> car_fare(4.4), car_fare(5.2), car_fare(6.3)
    (940, 1100, 1260)
    """
    if mass_tonnes > 7.5:
        raise UnknownVehicleError("The Wagtail does not carry vehicles of more than 7.5 tonnes.")
    extra_metres = max(0, math.ceil(length_metres - CAR_INCLUDED_METRES))
    return CAR_PENCE + extra_metres * CAR_EXTRA_METRE_PENCE


def ten_trip_card(single_pence: int) -> int:
    """Pence for a card of ten trips: the price of eight singles, without the night supplement.

    >>> ten_trip_card(ADULT_PENCE)
    2240
    """
    return single_pence * 8


def refund(paid_pence: int, *, delay_minutes: int, cancelled: bool) -> int:
    """Pence that a passenger gets back after a late or a cancelled crossing.

    A cancelled crossing is refunded in full. A delay of 30 minutes or more is refunded by half, rounded up to
    a whole penny, and a shorter delay is not refunded.

    >>> refund(280, delay_minutes=0, cancelled=True), refund(345, delay_minutes=31, cancelled=False)
    (280, 173)
    """
    if cancelled:
        return paid_pence
    return -(-paid_pence // 2) if delay_minutes >= 30 else 0
