"""Invented names of artists and titles: readable, reproducible, nobody's."""

import numpy as np

__all__ = ["artist_names", "titles"]


def _words(text: str) -> list[str]:
    return text.split()


_FIRST = _words(
    "Ada Bela Cira Dov Elka Faro Gita Hale Ilse Jory Kaia Lior Mira Nilo Oona Pell Quin Rhea "
    "Sol Tove Uri Vesna Wim Xena Ylva Zev Anouk Bram Ciel Dunya"
)
_START = _words("Al Bran Cor Den Ell Fen Gar Hol Ing Jar Kel Lan Mor Nor Ost Pem Ros Sal Tor Val")
_END = _words("ander by den ett field gard hart ison ka lund mark nik olm quist rell sen stad vik")
_ADJECTIVES = _words(
    "Amber Broken Cobalt Distant Electric Faded Gentle Hollow Idle Jagged Kind Lunar Midnight "
    "Neon Open Paper Quiet Rusty Silver Tender Velvet Wild Young Glass Northern Secret"
)
_NOUNS = _words(
    "Anchors Birds Canyons Drifters Engines Foxes Gardens Harbours Islands Jackets Kites "
    "Lanterns Mirrors Nomads Oceans Pilots Rivers Satellites Tigers Windows Wolves Orchards"
)
_THINGS = _words(
    "Rain Summer Road Fire Home Night Shadow Heart River Morning Letter Window Star Winter "
    "Highway Garden Silence Echo Storm Dream Harbour Mountain Signal Mirror Ocean Train"
)
_SHAPES = (
    "{adjective} {thing}",
    "The {thing}",
    "{thing} and {other}",
    "{adjective} {thing}s",
    "After the {thing}",
    "No More {thing}",
    "{thing} in {adjective} Light",
    "Waiting for {thing}",
)


def artist_names(count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Return `count` different names, of people and of bands."""
    names: dict[str, None] = {}
    while len(names) < count:
        picks = rng.integers(1 << 30, size=(count, 4)).tolist()
        for kind, a, b, c in picks:
            names.setdefault(_band(a, b, c) if kind % 5 < 2 else _person(a, b, c))
            if len(names) == count:
                break
    return tuple(names)


def titles(count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Return `count` titles; as in life, some are there more than once."""
    picks = rng.integers(1 << 30, size=(count, 4)).tolist()
    return tuple(
        _SHAPES[a % len(_SHAPES)].format(
            adjective=_ADJECTIVES[b % len(_ADJECTIVES)],
            thing=_THINGS[c % len(_THINGS)],
            other=_THINGS[(c + 1 + d % (len(_THINGS) - 1)) % len(_THINGS)],
        )
        for a, b, c, d in picks
    )


def _person(a: int, b: int, c: int) -> str:
    middle = chr(ord("A") + c // len(_END) % 26)
    surname = _START[b % len(_START)] + _END[c % len(_END)]
    # Rarely an initial, so that names do not run out in a large catalogue.
    initial = f" {middle}." if a // len(_FIRST) % 4 == 0 else ""
    return f"{_FIRST[a % len(_FIRST)]}{initial} {surname}"


def _band(a: int, b: int, c: int) -> str:
    name = f"{_ADJECTIVES[a % len(_ADJECTIVES)]} {_NOUNS[b % len(_NOUNS)]}"
    place = _START[c % len(_START)] + _END[c // len(_START) % len(_END)]
    return f"The {name}" if c // 1000 % 2 else f"{name} of {place.capitalize()}"
