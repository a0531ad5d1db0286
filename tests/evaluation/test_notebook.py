"""What a notebook shows of an evaluation."""

from tests.evaluation.made import made_evaluation, made_scores


def test_a_notebook_shows_the_table_and_no_markup_of_names() -> None:
    names = ("<b>cat</b>", "dog", "owl", "ant", "bee", "cow")
    shown = made_evaluation(made_scores(), names)._repr_html_()
    assert shown.startswith("<pre>")
    assert "top-1" in shown
    assert "<b>" not in shown
