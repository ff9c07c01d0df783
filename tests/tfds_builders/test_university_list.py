"""The real pair list of the University dataset, as its builder reads it."""

from tfds_builders.university.university_dataset_builder import PAIR_LIST, _read_frames


def test_the_list_names_the_frames_that_the_readme_counts(shared_data):
    frames = _read_frames(shared_data / "aalto_pairs" / PAIR_LIST)
    assert len(frames["query"]) == 3983 and len(frames["database"]) == 3154
    assert not set(frames["query"]) & set(frames["database"])
    assert {scene for scene, _ in frames["query"]} == {"office", "meeting", "kitchen", "conference"}
