"""The little English that captions need: articles, plurals, names with a colon."""

from __future__ import annotations

NUMBERS = {2: "two", 3: "three", 4: "four"}

# What is not counted: no article, no plural.
UNCOUNTED = {
    "bread",
    "broccoli",
    "butter",
    "cheese",
    "coffee",
    "confetti",
    "corn",
    "fog",
    "garlic",
    "ginger",
    "ice",
    "jeans",
    "lightning",
    "luggage",
    "money",
    "popcorn",
    "rice",
    "salt",
    "sashimi",
    "soap",
    "spaghetti",
    "sushi",
    "tea",
    "tempura",
    "thread",
    "yarn",
}
# Words in s that are one thing.
SINGULAR_S = {"bus", "cactus", "octopus", "hibiscus", "lotus", "compass", "campus"}
IRREGULAR = {
    "child": "children",
    "deer": "deer",
    "die": "dice",
    "fish": "fish",
    "foot": "feet",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "merman": "mermen",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "scarf": "scarves",
    "sheep": "sheep",
    "snowman": "snowmen",
    "tooth": "teeth",
    "wolf": "wolves",
    "woman": "women",
    "dress": "dresses",
    "bison": "bison",
    "squid": "squid",
    "shrimp": "shrimp",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mango": "mangoes",
    "volcano": "volcanoes",
    "tornado": "tornadoes",
    "hero": "heroes",
    "superhero": "superheroes",
    "roof": "roofs",
}
# Begin with the sound "you" or "one", or with a silent h.
A_BEFORE_VOWEL = ("uni", "ewe", "euro", "one-", "ufo", "uku", "use", "u-")
AN_BEFORE_CONSONANT = ("hour", "x-ray", "honest")
# The head noun stands before these.
LINKS = {"of", "with", "in", "on", "at", "behind", "without", "showing", "over"}


def split_head(noun: str) -> tuple[str, str, str]:
    """The words before the head noun, the head noun, and the words after it."""
    words = noun.split()
    end = next((i for i, w in enumerate(words) if i and w in LINKS), len(words))
    return " ".join(words[: end - 1]), words[end - 1], " ".join(words[end:])


def is_plural(noun: str) -> bool:
    """Whether a name is already in the plural ("grapes", "pair" of nothing)."""
    head = split_head(noun)[1].lower()
    if head in SINGULAR_S or head.endswith(("ss", "us", "is", "'s", "’s")):
        return False
    return head.endswith("s") or head in {"people", "men", "women", "dice"}


def is_counted(noun: str) -> bool:
    """Whether "two ..." of it makes sense: neither a plural nor a mass."""
    if split_head(noun)[1].lower() in UNCOUNTED or is_proper(noun):
        return False
    return not is_plural(noun)


def is_proper(noun: str) -> bool:
    """Whether a name is a person's or a place's, which takes no article."""
    words = noun.split()
    return len(words) > 1 and all(word[0].isupper() for word in words)


def article(phrase: str) -> str:
    """`"a"` or `"an"`, by the sound that the phrase begins with."""
    start = phrase.lower()
    if start.startswith(AN_BEFORE_CONSONANT):
        return "an"
    if start.startswith(A_BEFORE_VOWEL):
        return "a"
    first = phrase.split()[0]
    if len(first) > 1 and first.isupper():  # spelled: an ATM, an OK hand, a UFO
        return "an" if first[0] in "AEFHILMNORSX" else "a"
    return "an" if start[0] in "aeiou" else "a"


def plural(noun: str) -> str:
    """The plural of a name: its head noun's, with the rest as it was.

    Example:

    >>> plural("slice of pizza")
    'slices of pizza'
    """
    if not is_counted(noun):
        return noun
    before, head, after = split_head(noun)
    lower = head.lower()
    stem, hyphen, last = lower.rpartition("-")
    if last in IRREGULAR:
        many = stem + hyphen + IRREGULAR[last]
    elif lower.endswith(("s", "x", "z", "ch", "sh")):
        many = head + "es"
    elif lower.endswith("y") and lower[-2:-1] not in "aeiou":
        many = head[:-1] + "ies"
    else:
        many = head + "s"
    return " ".join(part for part in (before, many, after) if part)


def noun_phrase(noun: str, *adjectives: str, count: int = 1) -> str:
    """A name with its adjectives, and its article or number.

    Args:
        noun: A name in the singular, or one that has none ("scissors").
        adjectives: Words before it, in order; empty ones are left out.
        count: How many; 1 takes an article.

    Returns:
        For example "a small red apple", "grapes", "two slices of pizza".

    Example:

    >>> noun_phrase("owl"), noun_phrase("owl", "small"), noun_phrase("owl", count=2)
    ('an owl', 'a small owl', 'two owls')
    """
    described = [word for word in adjectives if word]
    if count > 1:
        return " ".join([NUMBERS[count], *described, plural(noun)])
    phrase = " ".join([*described, noun])
    if is_counted(noun):
        return f"{article(phrase)} {phrase}"
    return phrase
