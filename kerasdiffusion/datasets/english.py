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
    "bacon",
    "champagne",
    "coral",
    "dna",
    "paper",
    "polish",
    "wood",
}
# Words in s that are one thing.
SINGULAR_S = {"rhinoceros", "thumbs", "biceps"}
PLURAL_IS = {"skis"}
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
    "elf": "elves",
    "moose": "moose",
    "merperson": "merpeople",
    "mosquito": "mosquitoes",
    "sheaf": "sheaves",
    "index": "indexes",
}
# Begin with the sound "you" or "one", or with a silent h.
A_BEFORE_VOWEL = ("uni", "ewe", "euro", "one-", "ufo", "uku", "use", "u-")
AN_BEFORE_CONSONANT = ("hour", "x-ray", "honest")
# There is one alone: "the earth".
UNIQUE = {"earth", "milky way", "Statue of Liberty", "kaaba"}
# The head noun stands before these.
LINKS = {"of", "with", "in", "on", "at", "behind", "without", "over", "and"}
# These do what the word in -ing after them says.
DOERS = {"person", "man", "woman", "people", "face", "hand", "finger", "globe", "leaf"}
DOERS |= {"airplane"}
# Sayings that have no plural.
NEVER_COUNTED = {"thumbs up", "thumbs down", "airplane taking off"}


def split_head(noun: str) -> tuple[str, str, str]:
    """The words before the head noun, the head noun, and the words after it."""
    words = noun.split()
    end = 1
    while end < len(words):
        word, before = words[end], words[end - 1]
        if word in LINKS or (word.endswith("ing") and before in DOERS):
            break
        end += 1
    return " ".join(words[: end - 1]), words[end - 1], " ".join(words[end:])


def is_plural(noun: str) -> bool:
    """Whether a name is a plural already, such as "grapes"."""
    head = split_head(noun)[1].lower()
    if head in PLURAL_IS:
        return True
    if head in SINGULAR_S or head.endswith(("ss", "us", "is", "'s", "’s")):
        return False
    return head.endswith("s") or head in {"people", "men", "women", "dice"}


def is_counted(noun: str) -> bool:
    """Whether it takes an article: neither a plural, a mass nor a proper name."""
    if split_head(noun)[1].lower() in UNCOUNTED or is_proper(noun):
        return False
    return not is_plural(noun)


def can_count(noun: str) -> bool:
    """Whether "two ..." of it makes sense."""
    return is_counted(noun) and noun not in NEVER_COUNTED | UNIQUE


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
    if after.startswith("and "):
        after = "and " + plural(after.removeprefix("and "))
    if last.endswith("fish"):
        many = head
    elif last in IRREGULAR:
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
    if noun in UNIQUE:
        return f"the {phrase}"
    if is_counted(noun):
        return f"{article(phrase)} {phrase}"
    return phrase
