"""Labels from a chat model on any OpenAI-compatible server, for each of several seeds.

An answer that cannot be read is "cannot tell", and counted (`unparsed`). Answers are kept on disk and never requested
twice. Each request sends 15 words, the prompt in `chat_prompt.py`, and the seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from itlens.annotate.chat_prompt import ANSWER_TOKENS, LONGEST_ANSWER, Cost, messages, parse, tokens_about
from itlens.annotate.chat_server import ChatCache, ChatServer
from itlens.annotate.labels import Label, top_words
from itlens.errors import AnnotateError

SEEDS = (0, 1, 2, 3, 4)


class Chat:
    """The labeller that `chat` makes. workers: how many requests `annotate` sends at a time."""

    def __init__(
        self, server: ChatServer, cache: ChatCache, seeds: tuple[int, ...], temperature: float, workers: int
    ) -> None:
        self.name, self.seeds, self.workers = f"chat:{server.model}", seeds, workers
        # without a user's name and password, which an address may hold
        self.identity = f"{self.name} at {urlsplit(server.url).hostname}, temperature {temperature:g}"
        self.unparsed = 0  # answers so far that were not the requested JSON
        self._server, self._cache, self._temperature, self._lock = server, cache, temperature, Lock()

    def __call__(self, words: Sequence[str], *, seed: int | None = None) -> Label:
        """Return the label of the first 15 words; without a seed, with the first of `seeds`. Raises AnnotateError."""
        request = self._request(words, self.seeds[0] if seed is None else seed)
        place = {"server": self._server.url, **request}
        answer = self._cache.get(place)
        if answer is None:
            answer = self._server.ask(request)
            self._cache.put(place, answer)
        label = parse(self._server.scrub(answer), len(top_words(words)))
        if label is None:
            with self._lock:
                self.unparsed += 1
        # JSON escapes can spell the key where the answer's own text does not hold it
        return replace(label, description=self._server.scrub(label.description)) if label else Label.unknown

    def estimate(self, lists: Iterable[Sequence[str]]) -> Cost:
        """Return what labelling these lists with all seeds takes; sends nothing. Raises AnnotateError."""
        calls = cached = tokens = 0
        met = set()
        for words in lists:
            for seed in self.seeds:
                request = self._request(words, seed)
                asked = {"server": self._server.url, **request}
                place = self._cache.path(asked)
                if place in met or self._cache.get(asked) is not None:
                    cached += 1
                else:
                    calls, tokens = calls + 1, tokens + tokens_about(request["messages"])
                met.add(place)
        return Cost(calls, cached, tokens, calls * ANSWER_TOKENS)

    def __repr__(self) -> str:
        return f"chat({self._server.model!r}, base_url={self._server.url!r}, seeds={self.seeds})"

    def _request(self, words: Sequence[str], seed: int) -> dict[str, Any]:
        return {
            "model": self._server.model,
            "messages": messages(words),
            "seed": seed,
            "temperature": self._temperature,
            "max_tokens": LONGEST_ANSWER,
        }


def chat(
    model: str,
    *,
    base_url: str | None = None,
    seeds: Sequence[int] = SEEDS,
    cache: str | Path | None = None,
    temperature: float = 1.0,
    timeout: float = 60.0,
    tries: int = 6,
    pause: float = 1.0,
    workers: int = 4,
) -> Chat:
    """Return a labeller that asks a chat model, once for each seed. Needs the extra: pip install 'itlens[annotate]'.

    base_url: of the server, ending in /v1; default: the environment's OPENAI_BASE_URL, else OpenAI's. The key is read
    from OPENAI_API_KEY; a server on this machine needs none. cache: a folder for the answers; default: itlens/chat in
    the user's cache folder. timeout: seconds per request. tries: of one request, when the server is busy, too slow
    or broken (429, 5xx, timeouts), with pauses of `pause` seconds, doubled each time, or as long as the server
    requests. workers: requests at a time.

    Raises AnnotateError: no key, no package, no seeds, numbers out of range, and, when it is called, a server that
    cannot be reached, refuses, does not know the model, or speaks otherwise.
    """
    if not isinstance(model, str) or not model.strip():
        raise AnnotateError(f"model={model!r}; expected the name by which the server knows the model.")
    chosen = _checked_seeds(seeds)
    for name, value, least in (("timeout", timeout, 0.01), ("tries", tries, 1), ("pause", pause, 0)):
        _check(name, value, least)
    _check("workers", workers, 1)
    _check("temperature", temperature, 0)
    server = ChatServer(model, base_url, timeout=timeout, tries=tries, pause=pause)
    return Chat(server, ChatCache(cache if cache is not None else _cache_folder()), chosen, temperature, workers)


def _checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    chosen = tuple(seeds) if isinstance(seeds, Sequence) and not isinstance(seeds, str) else ()
    if not chosen or any(type(seed) is not int or seed < 0 for seed in chosen) or len(set(chosen)) < len(chosen):
        raise AnnotateError(f"seeds={seeds!r}; expected different whole numbers from 0 on, one at least.")
    return chosen


def _check(name: str, value: float, least: float) -> None:
    whole = name in ("tries", "workers")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not value >= least:
        raise AnnotateError(f"{name}={value!r}; expected a {'whole ' if whole else ''}number of at least {least}.")


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "itlens" / "chat"
