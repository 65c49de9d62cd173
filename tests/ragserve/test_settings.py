from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from types import SimpleNamespace

import pytest

from indexer.parsers import ParseOptions
from indexer.worker_values import ParseLimits
from ragserve import parts
from ragserve.errors import InvalidSetting, UnknownSetting
from ragserve.loading import load_settings
from ragserve.settings import (
    CacheSettings,
    ParsingSettings,
    RankingSettings,
    ServerSettings,
    Settings,
    declared_settings,
    value_of,
)
from retriever import RetrievalCache, RetrievalSettings
from retriever.errors import InvalidRetrievalSettings, RerankerNotFound


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path):
    (tmp_path / "ragserve.toml").write_text('k = 1\ndevice = "cpu"\njobs = 3\n')
    loaded = load_settings(
        flags={"k": 7, "device": None}, environ={"RAGSERVE_K": "9", "RAGSERVE_JOBS": "4"}, folder=tmp_path
    )
    assert (loaded.settings.k, loaded.settings.jobs, loaded.settings.device) == (7, 4, "cpu")
    assert loaded.origins["k"] == "flag"
    assert loaded.origins["jobs"] == "RAGSERVE_JOBS"
    assert loaded.origins["device"] == str(tmp_path / "ragserve.toml")
    assert loaded.origins["dtype"] == "default"


def test_without_any_source_the_settings_are_the_defaults(tmp_path):
    assert load_settings(environ={}, folder=tmp_path).settings == Settings()


def test_every_setting_can_be_set_in_the_environment(tmp_path):
    samples = {
        str: ("cpu", "cpu"),
        str | None: ("m", "m"),
        int: ("7", 7),
        int | None: ("8", 8),
        float: ("1.5", 1.5),
        float | None: ("0.5", 0.5),
        bool: ("true", True),
        Path: ("/x", Path("/x")),
        Path | None: ("/x", Path("/x")),
        tuple[str, ...]: ("a, b", ("a", "b")),
    }
    special = {
        "dtype": ("float16", "float16"),
        "quantization": ("int8", "int8"),
        "embedding_cache_bytes": ("2000000", 2_000_000),
        "recall_target": ("0.9", 0.9),
        "score_band": ("0.25", 0.25),
        "server.max_body_bytes": ("4096", 4096),
        "cache.max_false_hit_rate": ("0.01", 0.01),
        "cache.similarity_threshold": ("0.9", 0.9),
        "cache.min_recall": ("0.6", 0.6),
        "cache.audit_share": ("0.1", 0.1),
        "ranking.rerank": ("late-interaction", "late-interaction"),
        "ranking.rerank_weight": ("0.25", 0.25),
        "ranking.mmr_lambda": ("0.25", 0.25),
        "ranking.image_weight": ("0.25", 0.25),
        "parsing.max_memory_bytes": ("300000000", 300_000_000),
    }
    for key, declared in declared_settings().items():
        text, value = special.get(key, samples[declared.type])
        name = "RAGSERVE_" + key.upper().replace(".", "_")
        loaded = load_settings(environ={name: text}, folder=tmp_path)
        assert value_of(loaded.settings, key) == value
        assert loaded.origins[key] == name


def test_what_the_cache_remembers_is_the_retrievers_to_say_until_it_is_set(tmp_path):
    ours, theirs = parts.open_cache(Settings().cache), RetrievalCache()
    for name in ("max_bytes", "candidates", "max_false_hit_rate", "similarity_threshold"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert (ours.min_recall, ours.audit_share) == (theirs.min_recall, theirs.audit_share)
    (tmp_path / "ragserve.toml").write_text("[cache]\nmax_false_hit_rate = 0.02\ncandidates = 50\n")
    cache = parts.open_cache(load_settings(environ={}, folder=tmp_path).settings.cache)
    assert (cache.max_false_hit_rate, cache.candidates) == (0.02, 50)


def test_past_questions_are_kept_on_disk_only_where_that_is_set(tmp_path):
    index = SimpleNamespace(folder=tmp_path)
    kept = Settings(cache=CacheSettings(persist=True))
    for settings, read_only in ((Settings(), False), (kept, True)):
        assert parts.open_retriever(index, WordEmbedder(), settings, read_only=read_only)._cache_file is None
    file = parts.open_retriever(index, WordEmbedder(), kept)._cache_file
    assert file == tmp_path / "retrieval_cache.safetensors"


def test_what_becomes_of_the_best_passages_is_the_retrievers_to_say_until_it_is_set(tmp_path):
    index = SimpleNamespace(folder=tmp_path)
    retriever = parts.open_retriever(index, WordEmbedder(), Settings())
    assert (retriever.settings, retriever.reranker) == (RetrievalSettings(), None)
    (tmp_path / "ragserve.toml").write_text(
        '[ranking]\nrerank = "late-interaction"\nrerank_depth = 20\nmmr_lambda = 0.7\nneighbours = 1\n'
        "duplicate_overlap = 0.8\nsection_min_hits = 2\nrepair_disfluencies = true\n"
    )
    loaded = load_settings(environ={}, folder=tmp_path).settings
    retriever = parts.open_retriever(index, WordEmbedder(), loaded)
    assert retriever.reranker.name == "late interaction"
    assert retriever.settings == RetrievalSettings(
        reranker=retriever.reranker.fingerprint,
        rerank_depth=20,
        mmr_lambda=0.7,
        neighbours=1,
        duplicate_overlap=0.8,
        section_min_hits=2,
        repair_disfluencies=True,
    )


def test_a_reranker_that_cannot_be_is_an_error_before_anything_is_asked():
    with pytest.raises(InvalidSetting, match=r"ranking\.rerank is 'bm25'"):
        RankingSettings(rerank="bm25")
    with pytest.raises(InvalidSetting, match="rerank_model names none"):
        RankingSettings(rerank="cross-encoder")
    nowhere = RankingSettings(rerank="cross-encoder", rerank_model="/no/such/folder")
    with pytest.raises(RerankerNotFound, match="no model folder"):
        parts.open_reranker(Settings(ranking=nowhere), WordEmbedder())
    without_tokens = SimpleNamespace(fingerprint="plain")
    with pytest.raises(InvalidRetrievalSettings, match="token vectors"):
        parts.open_reranker(Settings(ranking=RankingSettings(rerank="late-interaction")), without_tokens)


class WordEmbedder:
    fingerprint = "words"

    def embed_tokens(self, texts, *, queries=False):
        raise AssertionError("nothing was asked")


def test_the_parsers_bounds_are_theirs_until_they_are_set(tmp_path):
    assert parts.parse_options(Settings().parsing) == ParseOptions()
    assert parts.parse_limits(Settings().parsing) == ParseLimits()
    assert parts.parse_limits(ParsingSettings(timeout_s=7)).seconds == 7
    (tmp_path / "ragserve.toml").write_text("[parsing]\nmax_bytes = 500_000_000\nocr = false\n")
    parsing = load_settings(environ={}, folder=tmp_path).settings.parsing
    assert parts.parse_options(parsing) == ParseOptions(max_bytes=500_000_000, ocr=False)


def test_a_password_is_the_first_line_of_its_file(tmp_path):
    file = tmp_path / "password"
    file.write_text("s3cret ü\r\nand a remark\n", encoding="utf-8")
    options = parts.parse_options(ParsingSettings(password_file=file))
    assert options.password == "s3cret ü"
    assert "s3cret" not in repr(options)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"\nx", "is empty"), (b"\xff", "UTF-8")]
)
def test_a_password_file_that_holds_none_is_named(tmp_path, content, said):
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidSetting, match=said) as caught:
        parts.parse_options(ParsingSettings(password_file=file))
    assert str(file) in caught.value.message


def test_a_table_of_the_file_sets_the_server(tmp_path):
    (tmp_path / "ragserve.toml").write_text(
        '[server]\nport = 9000\nallowed_hosts = ["a.example", "b.example"]\n'
    )
    server = load_settings(environ={}, folder=tmp_path).settings.server
    assert (server.port, server.allowed_hosts) == (9000, ("a.example", "b.example"))


@pytest.mark.parametrize(
    ("flags", "environ", "toml", "said"),
    [
        ({}, {"RAGSERVE_EMBEDER": "x"}, "", "Did you mean RAGSERVE_EMBEDDER?"),
        ({}, {}, "embeder = 'x'", "Did you mean embedder?"),
        ({}, {}, "[server]\nprot = 1", "Did you mean server.port?"),
        ({}, {}, "[sever]\nport = 1", "Did you mean server.port?"),
        ({"generatr": "x"}, {}, "", "Did you mean generator?"),
        ({}, {}, "zzzzzz = 1", "Run `ragserve config`"),
    ],
)
def test_an_unknown_key_is_an_error_that_suggests_the_right_one(tmp_path, flags, environ, toml, said):
    (tmp_path / "ragserve.toml").write_text(toml)
    with pytest.raises(UnknownSetting) as caught:
        load_settings(flags=flags, environ=environ, folder=tmp_path)
    assert said in caught.value.hint


@pytest.mark.parametrize(
    ("environ", "toml", "said"),
    [
        ({"RAGSERVE_K": "five"}, "", "RAGSERVE_K must be a whole number, not 'five'."),
        ({"RAGSERVE_QUANTIZATION": "int3"}, "", "quantization is 'int3', which is unknown."),
        ({"RAGSERVE_K": "0"}, "", "k must be at least 1, not 0."),
        ({"RAGSERVE_PRUNE": "perhaps"}, "", "RAGSERVE_PRUNE must be true or false, not 'perhaps'."),
        ({"RAGSERVE_DEVICE": "tpu"}, "", "device is 'tpu', no device."),
        ({"RAGSERVE_DTYPE": "int3"}, "", "dtype is 'int3', no number format."),
        ({"RAGSERVE_SERVER_PORT": "65536"}, "", "server.port must be at most 65535, not 65536."),
        ({"RAGSERVE_SERVER_DRAIN_SECONDS": "nan"}, "", "server.drain_seconds must be at least 0, not nan."),
        ({}, 'k = "5"', "k must be a whole number, not '5'."),
        ({}, "k = true", "k must be a whole number, not True."),
        ({}, "k = 1.5", "k must be a whole number, not 1.5."),
        ({}, "index = 3", "index must be a path, not 3."),
        ({}, "[server]\nallowed_hosts = [1]", "server.allowed_hosts"),
        ({}, "k = ", "is not valid TOML"),
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error_in_one_sentence(tmp_path, environ, toml, said):
    (tmp_path / "ragserve.toml").write_text(toml)
    with pytest.raises(InvalidSetting) as caught:
        load_settings(environ=environ, folder=tmp_path)
    assert said in caught.value.message
    assert caught.value.hint


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    (tmp_path / "ragserve.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSetting, match="cannot be read"):
        load_settings(environ={}, folder=tmp_path)


def test_what_kubernetes_sets_for_a_service_of_our_name_is_not_a_setting(tmp_path):
    environ = {
        "RAGSERVE_PORT": "tcp://10.0.0.1:8000",
        "RAGSERVE_PORT_8000_TCP_ADDR": "10.0.0.1",
        "RAGSERVE_SERVICE_HOST": "10.0.0.1",
        "RAGSERVE_SERVICE_PORT": "8000",
        "RAGSERVE_SERVICE_PORT_HTTP": "8000",
    }
    assert load_settings(environ=environ, folder=tmp_path).settings == Settings()


def test_an_empty_variable_is_one_that_was_not_set(tmp_path):
    assert load_settings(environ={"RAGSERVE_EMBEDDER": ""}, folder=tmp_path).settings.embedder is None


def test_settings_are_checked_however_they_are_made():
    with pytest.raises(InvalidSetting, match=r"k must be at least 1"):
        Settings(k=0)
    with pytest.raises(InvalidSetting, match=r"server.port must be a whole number"):
        ServerSettings(port="8000")  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        Settings().k = 3  # type: ignore[misc]


def test_load_heeds_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "ragserve.toml").write_text("k = 3")
    monkeypatch.chdir(tmp_path)
    assert Settings.load().k == 3
    assert Settings.load(k=4).k == 4


def test_answers_in_the_making_are_few_for_the_reader_and_many_for_an_engine():
    assert parts.generation_slots(Settings()) == 2
    assert parts.generation_slots(Settings(generator="./model")) == ServerSettings().max_requests
    assert parts.generation_slots(Settings(server=ServerSettings(generation_slots=5))) == 5


def test_every_setting_that_has_a_flag_is_one_that_there_is():
    from ragserve.cli.options import ANSWERING, SEARCHING, SETTING_FLAGS

    assert set(SETTING_FLAGS) <= set(declared_settings())
    assert set(SEARCHING) <= set(ANSWERING) <= set(SETTING_FLAGS)
