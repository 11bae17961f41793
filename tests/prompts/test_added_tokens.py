"""Words that were added to a tokenizer, as transformers 4 and 5 write them."""

import json

import pytest

from kerasdiffusion.presets.config import TokenizerConfig
from kerasdiffusion.prompts.added_tokens import AddedToken
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.prompts.vocabulary import END, START, Vocabulary

A, DOG, TOY = 320, 1929, 49408


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """CLIP's own files, to be copied from."""
    folder = tmp_path_factory.mktemp("clip")
    Tokenizer().save(folder)
    return {path.name: path.read_text("utf-8") for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path, base):
    for name, text in base.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def settings(folder, **more):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def token(content, **more):
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word", "special"), False)
    return {"content": content, "normalized": True, **flags, **more}


class TestWhereTheyAreWritten:
    def test_added_tokens_json_of_transformers_4(self, folder):
        (folder / "added_tokens.json").write_text(json.dumps({"<toy>": TOY}))
        tokenizer = Tokenizer.from_folder(folder)
        assert tokenizer.tokens("a <toy> dog") == [A, TOY, DOG]
        assert tokenizer.tokens("a<TOY>dog") == [A, TOY, DOG]
        assert tokenizer.vocabulary_size == TOY + 1
        assert tokenizer.decode([A, TOY, DOG]) == "a <toy> dog"

    def test_tokenizer_config_of_later_ones(self, folder):
        settings(folder, added_tokens_decoder={str(TOY): token("<toy>")})
        # What is beside it counts nothing then.
        (folder / "added_tokens.json").write_text(json.dumps({"<other>": TOY}))
        tokenizer = Tokenizer.from_folder(folder)
        assert tokenizer.tokens("a <toy> dog") == [A, TOY, DOG]
        assert TOY not in tokenizer.tokens("<other>")

    def test_tokenizer_json_of_transformers_5(self, folder, base):
        vocabulary = json.loads(base["vocab.json"])
        merges = [
            line.split(" ") for line in base["merges.txt"].splitlines()[1:] if line
        ]
        (folder / "vocab.json").unlink()
        rows = [token(START) | {"id": 49406}, token("<toy>") | {"id": TOY}]
        model = {"vocab": vocabulary, "merges": merges}
        text = json.dumps({"model": model, "added_tokens": rows})
        (folder / "tokenizer.json").write_text(text)
        assert Tokenizer.from_folder(folder).tokens("a <toy> dog") == [A, TOY, DOG]

    def test_special_ones_stand_as_they_are_written(self, folder):
        (folder / "added_tokens.json").write_text(json.dumps({"<Toy>": TOY}))
        settings(folder, additional_special_tokens=["<Toy>", "<Other>"])
        tokenizer = Tokenizer.from_folder(folder)
        assert tokenizer.tokens("<Toy>") == [TOY]
        assert TOY not in tokenizer.tokens("<toy>")
        assert tokenizer.tokens("<Other>") == [TOY + 1]

    def test_a_padding_of_its_own(self, folder):
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            path = folder / name
            path.write_text(
                json.dumps(json.loads(path.read_text()) | {"pad_token": "<pad>"})
            )
        (folder / "added_tokens.json").write_text(json.dumps({"<pad>": TOY}))
        tokenizer = Tokenizer.from_folder(folder)
        assert tokenizer("a")[0].tolist() == [49406, A, 49407] + [TOY] * 74

    def test_what_is_saved_is_read_back(self, tmp_path):
        vocabulary = Tokenizer().vocabulary.with_words(["<toy>", "easynegative"])
        tokenizer = Tokenizer(TokenizerConfig(), vocabulary)
        tokenizer.save(tmp_path)
        again = Tokenizer.from_folder(tmp_path)
        assert again.vocabulary == vocabulary
        assert again.tokens("<toy>, easynegative") == [TOY, 267, TOY + 1]

    def test_a_subset_keeps_them(self):
        vocabulary = Tokenizer().vocabulary.with_words(["<toy>"])
        small = Tokenizer(TokenizerConfig(), vocabulary).subset(["a <toy> dog"])
        assert small.tokens("a <toy> dog")[1] == small.vocabulary_size - 1
        assert small.decode(small.tokens("a <toy> dog")) == "a <toy> dog"


def reader(*tokens):
    rows = (AddedToken(**{"id": TOY + i, **row}) for i, row in enumerate(tokens))
    vocabulary = Tokenizer().vocabulary
    vocabulary = Vocabulary(vocabulary.ids, vocabulary.merges, tuple(rows))
    return Tokenizer(TokenizerConfig(), vocabulary)


class TestHowTheyAreFound:
    def test_the_longest_of_the_leftmost(self):
        tokenizer = reader({"content": "<a>"}, {"content": "<a><b>"})
        assert tokenizer.tokens("<a><b><a>") == [TOY + 1, TOY]

    @pytest.mark.parametrize("text", ["xtoys", "toys", "xtoy", "toy_", "toy1"])
    def test_a_single_word_is_no_part_of_one(self, text):
        assert TOY in reader({"content": "toy"}).tokens(text)
        assert TOY not in reader({"content": "toy", "single_word": True}).tokens(text)

    @pytest.mark.parametrize("text", ["toy", " toy,", "(toy)", "a toy"])
    def test_a_single_word_is_found_alone(self, text):
        assert TOY in reader({"content": "toy", "single_word": True}).tokens(text)

    def test_several_vectors_of_one_word(self):
        tokenizer = reader(*({"content": f"<t>{end}"} for end in ("", "_1", "_2")))
        assert tokenizer.tokens("a <t>") == [A, TOY, TOY + 1, TOY + 2]
        assert tokenizer.tokens("a <t>_1") == [A, TOY + 1]

    def test_a_word_of_spaces(self):
        assert reader({"content": "my  Toy"}).tokens("a MY toy") == [A, TOY]

    def test_many_in_a_long_text_take_no_square_of_its_length(self):
        tokenizer = reader({"content": "<t>", "lstrip": True, "rstrip": True})
        assert tokenizer.tokens("<t>   " * 50_000) == [TOY] * 50_000


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"<toy>": TOY + 1}, "behind the last one.*49408. Received: 49409"),
            ({"dog</w>": TOY}, "its own of the vocabulary: 1929. Received: 49408"),
            ({"<toy>": -1}, "as transformers writes them. Received: '<toy>' is -1"),
            ({"<toy>": True}, "'<toy>' is True"),
            ({"<toy>": [[[]]]}, "'<toy>' is "),
            ({"": TOY}, "content"),
            ([], "must hold a JSON object"),
        ],
    )
    def test_in_added_tokens_json(self, folder, content, message):
        (folder / "added_tokens.json").write_text(json.dumps(content))
        if content == {"": TOY}:
            settings(folder, added_tokens_decoder={str(TOY): token("")})
        with pytest.raises(ValueError, match=message):
            Tokenizer.from_folder(folder)

    @pytest.mark.parametrize(
        "decoder",
        [
            [],
            {"x": token("<toy>")},
            {"9" * 10: token("<toy>")},
            {str(TOY): "<toy>"},
            {str(TOY): token(3)},
            {str(TOY): token("<toy>", lstrip="yes")},
        ],
    )
    def test_in_tokenizer_config_json(self, folder, decoder):
        settings(folder, added_tokens_decoder=decoder)
        with pytest.raises(ValueError, match="as transformers writes them. Received"):
            Tokenizer.from_folder(folder)

    def test_words_that_are_tokens_already(self):
        for word in (END, "dog</w>", ""):
            with pytest.raises(ValueError, match="no token yet. Received"):
                Tokenizer().vocabulary.with_words([word])
