"""What goes wrong with an image."""


class ImageError(ValueError):
    """An image cannot be read; the message is one line: which image, what is wrong with it, and what to do."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {' '.join(problem.split())}")

    def __reduce__(self) -> tuple[object, ...]:
        # the two arguments are not kept apart, and the default would call __init__ with one
        return _restore, (str(self),)


def _restore(message: str) -> ImageError:
    error = ImageError.__new__(ImageError)
    error.args = (message,)
    return error
