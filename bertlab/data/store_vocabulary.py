"""Whether a token store is the one, or of the vocabulary, that an encoder or a checkpoint was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertlab.corpus.token_store import TokenStore

#: Key, in the state of the data in a checkpoint, of the hash of the store's tokenizer.
TOKENIZER_HASH = "tokenizer"
#: Key of the hash of the store's content.
CONTENT_HASH = "store"
#: Key of the arguments that say which texts are held out.
HELD_OUT = "held_out"
#: Key of the arguments that the training stream follows from.
STREAM = "stream"
SHOWN = 12  # digits of a hash in a message


def check_encoder_vocabulary(store: TokenStore, tokenizer: Any, source: str) -> None:
    """Refuse a store whose ids are of other pieces than those that an encoder has learned.

    Args:
        store: of the data.
        tokenizer: of the encoder, a fast one of transformers, with the new pieces where its vocabulary is extended.
        source: where the encoder comes from.

    Raises:
        ValueError: names both, their first difference, and what to do.
    """
    difference = store.difference(tokenizer)
    if difference:
        raise ValueError(
            f"data.init_args.store: {store.folder} was made by another tokenizer than that of "
            f"model.init_args.encoder ({source}), whose ids mean other pieces: {difference}. Build the corpus with "
            f"vocabulary: bertlab.corpus.vocabulary.GivenVocabulary, source: {source}; or, if the store's extends it, "
            f"set new_pieces of the encoder to {store.tokenizer_folder}."
        )


def check_same_vocabulary(store: TokenStore, state: Mapping[str, Any]) -> None:
    """Refuse a store of another vocabulary than that of the store which a checkpoint was trained on.

    Args:
        store: of the data.
        state: of the data in the checkpoint; older ones do not say the vocabulary.

    Raises:
        ValueError: it is of another vocabulary.
    """
    known = state.get(TOKENIZER_HASH)
    if known is not None and known != store.tokenizer_hash:
        raise ValueError(
            f"data.init_args.store: {store.folder} is of another vocabulary (tokenizer {store.tokenizer_hash[:SHOWN]}) "
            f"than the store that the checkpoint was trained on (tokenizer {known[:SHOWN]}). Take that one, which the "
            "config.yaml of its run names, or build the corpus with its vocabulary: "
            "bertlab.corpus.vocabulary.GivenVocabulary, source: <that store>/tokenizer."
        )


def check_same_content(store: TokenStore, state: Mapping[str, Any]) -> None:
    """Refuse to go on in a store of other text than the one that a checkpoint was trained on.

    Args:
        store: of the data.
        state: of the data in the checkpoint; older ones do not say what the store held.

    Raises:
        ValueError: it holds other text.
    """
    if state.get(CONTENT_HASH, store.content_hash) != store.content_hash:
        raise ValueError(
            f"data.init_args.store: {store.folder} holds other text than the store that the checkpoint was trained on. "
            "The samples that it has seen are counted in that one, and texts that it was trained on may be held out "
            "here. Take that one, which the config.yaml of its run names; or go on with this text in a run of its own, "
            "from what `bertlab export` makes of the checkpoint (source of the encoder)."
        )


def check_same_arguments(arguments: Mapping[str, Mapping[str, Any]], state: Mapping[str, Any]) -> None:
    """Refuse to go on with other held-out texts, or in another stream of examples, than a checkpoint was trained with.

    Args:
        arguments: of the data, by HELD_OUT and STREAM, by their keys.
        state: of the data in the checkpoint; older ones do not say them.

    Raises:
        ValueError: one is another; the message names its key.
    """
    why = {
        HELD_OUT: "texts that it was trained on would be held out now",
        STREAM: "the samples that it has seen are counted in the stream of examples that follows from it",
    }
    for kind, now in arguments.items():
        for key, value in now.items():
            known = state.get(kind, {}).get(key, value)
            if known != value:
                raise ValueError(
                    f"data.init_args.{key} is {value!r}, and was {known!r} in the training that the checkpoint is of: "
                    f"{why[kind]}. Set it as it was; or begin a run of its own, from what `bertlab export` makes of "
                    "the checkpoint (source of the encoder)."
                )
