"""Ask a running service: python examples/serve/client.py photo.jpg [http://127.0.0.1:8000] [KEY]."""

import sys
import time
from pathlib import Path

import httpx


def main() -> None:
    """Print the likeliest classes of an image."""
    image, url, key = (sys.argv[1:] + ["photo.jpg", "http://127.0.0.1:8000", ""][len(sys.argv) - 1 :])[:3]
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        while True:
            answer = client.post("/v1/classify", params={"top_k": 3}, content=Path(image).read_bytes())
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(int(answer.headers["Retry-After"]))  # the service is busy, and says for how long
    if answer.is_error:
        sys.exit(answer.json()["error"]["message"])
    for each in answer.json()["results"][0]["predictions"]:
        print(f"{each['label']}: {each['score']:.1%}")


if __name__ == "__main__":
    main()
