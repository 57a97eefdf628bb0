#!/usr/bin/env python3
"""The openai package's own retries, against a coordinator that is not ready (503) and a key at its limit (429): it
waits as long as Retry-After says and succeeds; what would fail again it does not ask twice.

usage: openai_retries.py --shoal BINARY --model FILE --venv DIR"""
import argparse
import pathlib
import re
import sys
import tempfile
import threading

from openai_client import ANSWER, QUESTION, into_venv

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cluster"))
TRIES = 60


class Asked:
    """A client that remembers the statuses and Retry-After of all that it was answered."""

    def __init__(self, url, key, retries=TRIES):
        import openai
        self.answers = []
        self.refused = threading.Event()
        http = openai.DefaultHttpxClient(event_hooks={"response": [self.note]})
        self.client = openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=retries, http_client=http)

    def note(self, response):
        self.answers.append((response.status_code, response.headers.get("retry-after")))
        if response.status_code >= 400:
            self.refused.set()

    def ask(self, **more):
        return self.client.chat.completions.create(model="shoal-demo-q8_0", messages=QUESTION, temperature=0, **more)

    def check(self, refusal):
        """Refused at least once, each time with a wait, and then served."""
        statuses = [status for status, _ in self.answers]
        assert len(statuses) > 1 and set(statuses[:-1]) == {refusal} and statuses[-1] == 200, self.answers
        assert all(0 < int(wait) <= 60 for _, wait in self.answers[:-1]), self.answers


def after_a_refusal(asked, then):
    """The answer to a request that is refused until `then` was done."""
    def wait():
        if asked.refused.wait(60):
            then()
    helper = threading.Thread(target=wait)
    helper.start()
    answer = asked.ask().choices[0].message.content
    helper.join()
    return answer


def check_not_ready(cluster):
    asked = Asked(cluster.url, "none")
    assert after_a_refusal(asked, lambda: cluster.add_node("a")) == ANSWER
    asked.check(503)


def check_limit(cluster):
    done = cluster.admin("keys", "create", "one", "--concurrency", "1")
    key = re.search(r"sk-shoal-\S+", done.stdout)[0]
    stream = Asked(cluster.url, key).client.completions.create(
        model="shoal-demo-q8_0", prompt="Once", stream=True, max_tokens=2000, temperature=1.2, extra_body={
            "ignore_eos": True})
    next(iter(stream))
    asked = Asked(cluster.url, key)
    assert after_a_refusal(asked, stream.close) == ANSWER
    asked.check(429)
    return key


def check_what_is_not_tried_again(cluster, key):
    import openai
    for kind, given, more in ((openai.BadRequestError, key, {"top_p": 7}), (openai.AuthenticationError, "wrong", {}),
                              (openai.NotFoundError, key, {"extra_body": {"model": "gpt-9"}})):
        asked = Asked(cluster.url, given)
        try:
            asked.ask(**more)
            raise AssertionError(f"{kind} was expected")
        except kind:
            assert len(asked.answers) == 1, asked.answers


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--shoal", "--model", "--venv"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    into_venv(options.venv)
    from rig import Cluster
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(options.shoal, folder, "--nodes", 1, model=options.model)
        try:
            check_not_ready(cluster)
            check_what_is_not_tried_again(cluster, check_limit(cluster))
        finally:
            codes = cluster.stop()
    assert set(codes.values()) == {0}, codes
    print("retries: all well")


if __name__ == "__main__":
    main()
