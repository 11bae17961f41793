"""Branches, shares and variants, with texts for contexts."""

import numpy as np
import pytest

from kerasdiffusion.prompts.branches import Ready, make_branches, one_text


def encode(texts):
    """Each text as the numbers of its letters, in chunks of four."""
    rows = [[float(ord(letter)) for letter in text] for text in texts]
    length = max(4, *(-(-len(row) // 4) * 4 for row in rows))
    padded = [row + [0.0] * (length - len(row)) for row in rows]
    return np.array(padded, "float32")[..., None], None


def no_words():
    return np.zeros((4, 1), "float32")


def said(context):
    return "".join(chr(int(number)) for number in context[:, 0] if number)


def make(prompts, negatives=("",), guided=True, steps=4, per_step=1, **options):
    rows = np.repeat(np.arange(steps), per_step)
    negatives = list(negatives) * (len(prompts) // len(negatives))
    return make_branches(
        prompts, negatives, guided, rows, steps, encode, no_words, **options
    )


def at_calls(branches, branch=-1, picture=0):
    return [said(branches.contexts[branch][v, picture]) for v in branches.variants]


def test_plain_prompts_are_one_variant():
    found = make(["cat", "dog"], ["bad"])
    assert [context.shape for context in found.contexts] == [(1, 2, 4, 1)] * 2
    assert (found.shares == 1).all() and found.shares.shape == (1, 2)
    assert (found.variants == 0).all()
    alone = make(["cat"], guided=False)
    assert len(alone.contexts) == 1 and alone.shares.shape == (0, 1)


def test_editing_counts_calls_from_0_as_a1111_does():
    """`current_step <= end_at_step`, and the first call is number 0."""
    found = make(["[a:b:2]"], steps=6)
    assert at_calls(found) == ["a", "a", "a", "b", "b", "b"]
    assert at_calls(make(["[a:b:0.5]"], steps=8)) == ["a"] * 5 + ["b"] * 3
    assert at_calls(make(["[a|b]"], steps=5)) == ["a", "a", "b", "a", "b"]
    # Second order: two calls a step, which both count.
    assert at_calls(make(["[a:b:2]"], steps=3, per_step=2)) == ["a"] * 3 + ["b"] * 3
    assert at_calls(make(["[a:b:0.5]"], steps=4, per_step=2)) == ["a"] * 5 + ["b"] * 3


def test_variants_are_those_of_all_branches_to_a_power_of_two():
    found = make(["[a|b|c]"], ["[x:y:3]"], steps=12)
    assert at_calls(found, 0)[:6] == ["x", "x", "x", "x", "y", "y"]
    assert at_calls(found)[:5] == ["a", "a", "b", "c", "a"]
    assert {context.shape[0] for context in found.contexts} == {8}
    one = make(["[a|b]", "c"], steps=6)
    assert one.contexts[1].shape[0] == 2
    assert at_calls(one, 1, 1) == ["c"] * 6


def test_and_makes_branches_with_shares():
    found = make(["a AND b:0.5", "c"])
    assert len(found.contexts) == 3
    assert found.shares.tolist() == [[1, 1], [0.5, 0]]
    assert at_calls(found, 1)[0].strip() == "a" and at_calls(found, 2)[0] == " b"
    assert at_calls(found, 2, 1)[0] == "c"
    # Branches need something to lead away from.
    assert len(make(["a AND b"], guided=False).contexts) == 3


def test_all_contexts_have_the_same_chunks():
    found = make(["a long prompt"], ["no"])
    assert [context.shape for context in found.contexts] == [(1, 1, 16, 1)] * 2
    given = np.ones((8, 1), "float32")
    found = make([given, "no"])
    assert found.contexts[1].shape == (1, 2, 8, 1)
    assert (found.contexts[1][0, 0] == given).all()
    with pytest.raises(ValueError, match=r"must have 4 tokens.*Received: .*\[4, 5\]"):
        make([np.ones((5, 1), "float32")])


def test_plain_text_is_left_alone():
    found = make(["[a:b:2] AND c:3"], literal=True)
    assert at_calls(found) == ["[a:b:2] AND c:3"] * 4 and len(found.contexts) == 2
    assert one_text("(a:1.2)") == "(a:1.2)"
    for prompt in ("[a|b]", "a AND b", "a AND b:2"):
        with pytest.raises(ValueError, match="gives one context a prompt.*Received"):
            one_text(prompt)


def encode_two(texts):
    """What two text encoders read, side by side, and the second's as pooled text."""
    pairs = [text if isinstance(text, tuple) else (text, text) for text in texts]
    contexts = [encode([pair[i] for pair in pairs])[0] for i in (0, 1)]
    length = max(context.shape[1] for context in contexts)
    padded = [np.pad(x, [(0, 0), (0, length - x.shape[1]), (0, 0)]) for x in contexts]
    joined = np.concatenate(padded, axis=-1)
    return joined, joined[:, 0, 1:]


def make_two(prompt, negative="", steps=4, **options):
    rows, none = np.arange(steps), lambda: np.zeros((4, 2), "float32")
    return make_branches(
        [prompt], [negative], True, rows, steps, encode_two, none, **options
    )


def both_at_calls(branches, branch=-1):
    contexts = [branches.contexts[branch][v, 0] for v in branches.variants]
    return [(said(context[:, :1]), said(context[:, 1:])) for context in contexts]


def test_two_text_encoders_read_texts_of_their_own():
    """Each with its own stages; what AND joins is joined part by part."""
    found = make_two(("[a:b:1]", "[x:y:2]"), steps=4)
    assert both_at_calls(found) == [("a", "x"), ("a", "x"), ("b", "x"), ("b", "y")]
    pooled = [chr(int(found.pooled[1][v, 0, 0])) for v in found.variants]
    assert pooled == ["x", "x", "x", "y"]
    assert both_at_calls(make_two("[a:b:1]"))[1:3] == [("a", "a"), ("b", "b")]
    joined = make_two(("a AND b:0.5", "x"))
    assert joined.shares.tolist() == [[1], [0.5]]
    assert both_at_calls(joined, 2)[0] == (" b", "x")
    assert both_at_calls(make_two(("a AND b", "x AND y")), 1)[0] == ("a", "x")
    with pytest.raises(ValueError, match="must have one part or 2, as many.*Received"):
        make_two(("a AND b", "x AND y AND z"))


def test_none_is_zeros_of_any_length():
    found = make_two("a long prompt", None)
    assert found.contexts[0].shape == found.contexts[1].shape == (1, 1, 16, 2)
    assert not found.contexts[0].any() and not found.pooled[0].any()
    assert found.contexts[1].any() and found.pooled[1].any()
    ready = Ready(np.ones((8, 2), "float32"), np.ones(1, "float32"))
    found = make_two(ready, None)
    assert (found.contexts[1] == 1).all() and (found.pooled[1] == 1).all()


def test_stages_go_on_behind_another_models_calls():
    """The second half of a run sees what it would see of the whole."""
    whole = at_calls(make(["[a:b:3]"], steps=8))
    half = make_branches(
        ["[a:b:3]"],
        [""],
        True,
        np.arange(2, 8),
        8,
        encode,
        no_words,
        calls_before=2,
    )
    assert at_calls(half) == whole[2:] == ["a"] * 2 + ["b"] * 4
