"""The pictures of the demonstration: the base model's training pictures show none of the users' subjects."""

from __future__ import annotations

from scenarios.personalization import corpus, pictures


def test_training_corpus_has_no_subject_of_a_user():
    brought = {path for _, path, _ in (pictures.SUBJECTS | pictures.SPARE).values()}
    assert len(brought) == 4
    assert not brought & set(corpus.CORPUS)
    shown = {what.split()[-1] for what in corpus.CORPUS.values()}
    assert not shown & {subject for subject, *_ in (pictures.SUBJECTS | pictures.SPARE).values()}
