#!/usr/bin/env python3
"""Chat with the demo model on a pseudo-terminal, as a person would. argv[1]: the binary."""
import json
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import tempfile
import unittest

from terminal import Terminal

SHOAL = sys.argv.pop(1)
DEMO = "tests/data/shoal-demo-q8_0.gguf"
FRANCE = "What is the capital of France?"
GREEDY = ("--temperature", "0")
# draws from all tokens alike, and does not happen on an end token for long
ENDLESS = ("--temperature", "100", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed", "5")


class Repl(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("SHOAL_")}
        self.environment.update(TERM="xterm", HOME=folder.name, LC_ALL="C.UTF-8")

    def chat(self, *options, model=DEMO, columns=80, ready=True):
        t = Terminal([SHOAL, "run", model, "--state-dir", str(self.path / "state"), *options], self.environment,
                     columns)
        self.addCleanup(t.close)
        if ready:
            t.wait_for("Shoal Demo.*\n>>> ")
        return t

    def leave(self, t):
        t.line("/bye")
        self.assertEqual(t.ended(), 0)

    # ---- answers ----

    def test_it_answers_and_remembers_until_it_is_told_to_forget(self):
        t = self.chat(*GREEDY)
        self.assertIn("Paris", t.ask(FRANCE))
        self.assertIn("4 messages", t.ask("What is the capital of Italy?") + t.ask("/show info"))
        t.ask("/clear")
        self.assertIn("0 messages, 0 of 2048", t.ask("/show info"))
        self.assertIn("Paris", t.ask(FRANCE))
        self.leave(t)

    def test_figures_are_shown_when_asked_for(self):
        t = self.chat(*GREEDY, "--verbose")
        said = t.ask(FRANCE)
        for words in (r"total +\d+\.\d+ s \(the model was loaded in \d+\.\d+ s\)",
                      r"prompt +16 tokens, 16 of them new, .*: \d+\.\d tokens/s",
                      r"answer +\d+ tokens in .*: \d+\.\d tokens/s"):
            self.assertRegex(said, words)
        again = t.ask("And of Italy?")
        prompt, new = map(int, re.search(r"prompt +(\d+) tokens, (\d+) of them new", again).groups())
        self.assertLess(new, prompt)  # what was said before is in the cache
        t.ask("/set quiet")
        self.assertNotIn("tokens/s", t.ask(FRANCE))
        t.ask("/set verbose")
        self.assertIn("tokens/s", t.ask(FRANCE))
        self.leave(t)

    def test_several_lines_stand_between_quotes(self):
        t = self.chat(*GREEDY)
        t.line('"""What is the capital')
        t.wait_for(r"\.\.\. ")
        t.line("of")
        t.wait_for(r"\.\.\. ")
        t.ask('Italy?"""')
        t.ask('"""/bye is a word"""')
        t.ask("/save several")
        texts = [m["content"] for m in self.saved("several")["messages"] if m["role"] == "user"]
        self.assertEqual(texts, ["What is the capital\nof\nItaly?", "/bye is a word"])
        t.line('/set system """You are')
        t.wait_for(r"\.\.\. ")
        t.ask('brief."""')
        self.assertIn("You are\nbrief.\n", t.ask("/show system"))
        self.leave(t)

    def test_the_system_text_and_parameters_change_answers(self):
        t = self.chat(*GREEDY, "--system", "first")
        self.assertIn("first", t.ask("/show system"))
        t.ask('/set system "second text"')
        self.assertIn('SYSTEM """second text"""', t.ask("/show modelfile"))
        t.ask("/set system")
        self.assertIn("no system text", t.ask("/show system"))
        t.ask("/set parameter num_predict 2")
        self.assertNotIn("Paris", t.ask(FRANCE))
        t.ask("/set max_tokens -1")
        t.ask('/set stop "is" Paris')
        self.assertEqual(t.ask(FRANCE), "The capital of France \n>>> ")
        self.assertIn('stop                "is"\nstop                "Paris"', t.ask("/show parameters"))
        t.ask("/set stop")
        self.assertIn("Paris", t.ask(FRANCE))
        self.leave(t)

    def test_every_parameter_is_held_to_its_range(self):
        t = self.chat()
        for name, good, bad in (("temperature", "0.5", "-1"), ("top_k", "7", "1.5"), ("top_p", "0.25", "2"),
                                ("min_p", "0.125", "nan"), ("repeat_penalty", "1.5", "0"),
                                ("repeat_last_n", "-1", "-2"), ("presence_penalty", "1", "101"),
                                ("frequency_penalty", "-1", "-101"), ("seed", "42", "-1"),
                                ("num_predict", "99", "ten")):
            t.ask(f"/set parameter {name} {good}")
            self.assertRegex(t.ask(f"/set parameter {name} {bad}"), "number")
            self.assertRegex(t.ask("/show modelfile"), rf"PARAMETER {name} +{good}\n")
        self.assertIn("--context", t.ask("/set parameter num_ctx 4096"))
        self.leave(t)

    # ---- commands ----

    def test_help_names_every_command_and_unknown_ones_are_said(self):
        t = self.chat()
        said = t.ask("/?")
        for name in ("/set", "/show", "/save", "/load", "/clear", "/bye", "/?", '"""'):
            self.assertIn(name, said)
        self.assertIn("nohistory", t.ask("/? set"))
        self.assertIn("template", t.ask("/? show"))
        self.assertIn("Ctrl-C", t.ask("/? keys"))
        self.assertIn("no command /frobnicate", t.ask("/frobnicate now"))
        self.assertIn('knows no "frobnicate"', t.ask("/set frobnicate 1"))
        self.assertIn('knows no "frobnicate"', t.ask("/show frobnicate"))
        self.assertIn('no parameter "frobnicate"', t.ask("/set parameter frobnicate 1"))
        self.assertIn("qwen3moe", t.ask("/show info"))
        self.assertIn("<|im_start|>", t.ask("/show template"))
        self.leave(t)

    def saved(self, name):
        return json.loads((self.path / "state" / "conversations" / f"{name}.json").read_text())

    def test_a_saved_conversation_goes_on(self):
        t = self.chat(*GREEDY, "--system", "be brief")
        t.ask(FRANCE)
        t.ask("/set seed 7")
        self.assertIn("Saved", t.ask("/save trip"))
        self.assertEqual(stat.S_IMODE((self.path / "state/conversations/trip.json").stat().st_mode), 0o600)
        self.leave(t)
        t = self.chat()
        self.assertIn("  trip\n", t.ask("/load"))
        self.assertIn("2 messages", t.ask("/load trip"))
        self.assertIn("be brief", t.ask("/show system"))
        self.assertRegex(t.ask("/show parameters"), r"temperature +0\n(.*\n)*seed +7\n")
        self.assertIn("2 messages, 0 of", t.ask("/show info"))
        t.ask("And of Italy?")
        t.ask(f"/save {self.path}/elsewhere.json")
        roles = [m["role"] for m in json.loads((self.path / "elsewhere.json").read_text())["messages"]]
        self.assertEqual(roles, ["user", "assistant", "user", "assistant"])
        self.leave(t)

    def test_what_is_no_conversation_is_left_alone(self):
        t = self.chat(*GREEDY)
        t.ask(FRANCE)
        other = self.path / "other.json"
        other.write_text("{}")
        self.assertIn("stays as it is", t.ask(f"/save {other}"))
        self.assertEqual(other.read_text(), "{}")
        self.assertIn("no conversation", t.ask(f"/load {other}"))
        t.ask("/save good")
        good = self.saved("good")
        for change in ({"messages": [{"role": "system", "content": "x"}]}, {"messages": [{"role": "user"}]},
                       {"messages": 1}, {"version": 2}, {"parameters": {"top_p": 3}}, {"parameters": {"x": 1}},
                       {"parameters": {"stop": [1]}}, {"parameters": None}, {"format": "other"}):
            other.write_text(json.dumps({**good, **change}))
            self.assertIn("other.json", t.ask(f"/load {other}"))
        other.write_text(json.dumps({**good, "system": "\x1b]0;owned\x07\u202eabc", "model": "\x1b[2J"}))
        t.ask(f"/load {other}")
        self.assertIn("^[]0;owned^G<202e>abc\n", t.ask("/show system") + t.ask("/show modelfile"))
        self.assertNotIn(b"\x1b]", t.shown)
        self.assertNotIn(b"\x1b[2J", t.shown)
        for name in (".hidden", "n" * 300):
            self.assertIn("is no name", t.ask(f"/save {name}"))
        self.assertIn("not there", t.ask("/load absent"))
        self.assertIn("shoal run", t.ask(f"/load {os.path.abspath(DEMO)}"))
        self.assertIn("2 messages", t.ask("/show info"))
        self.leave(t)

    # ---- keys ----

    def test_interrupt_stops_the_answer_and_not_the_program(self):
        t = self.chat(*ENDLESS)
        t.line("Speak.")
        t.wait_for(r"Speak\.\n[^\n]+")
        t.interrupt()
        t.interrupt()  # a second one ends nothing either; it may come when the answer has stopped, to the next prompt
        t.wait_for("\n>>> ")
        try:
            t.wait_for("Ctrl-D or /bye leaves.\n>>> ", patience=1)
        except AssertionError:
            pass
        t.ask("/set temperature 0")
        t.ask("/clear")
        self.assertIn("Paris", t.ask(FRANCE))
        self.leave(t)

    def test_interrupt_at_the_prompt(self):
        t = self.chat()
        t.interrupt()
        t.wait_for("Ctrl-D or /bye leaves.\n>>> ")
        t.type("something")
        t.wait_for("something")
        t.interrupt()
        self.assertNotIn("leaves", t.wait_for("\n>>> "))
        t.line('"""something')
        t.wait_for(r"\.\.\. ")
        t.interrupt()
        self.assertNotIn("leaves", t.wait_for("\n>>> "))
        self.assertIn("0 messages", t.ask("/show info"))
        t.type("\x04")
        self.assertEqual(t.ended(), 0)

    def test_sigterm_and_a_lost_terminal_end_it(self):
        t = self.chat()
        os.kill(t.pid, signal.SIGTERM)
        self.assertEqual(t.ended(), 0)
        t = self.chat(*ENDLESS)
        t.line("Speak.")
        t.wait_for(r"Speak\.\n[^\n]+")
        os.kill(t.pid, signal.SIGTERM)
        self.assertEqual(t.ended(), 0)

    def test_lines_are_edited_and_come_back(self):
        t = self.chat(*GREEDY)
        t.type("What is the capital of Xrance?\x01")  # Ctrl-A
        t.type("\x1b[C" * 23 + "\x04F")               # right, delete, insert
        self.assertIn("Paris", t.ask(""))
        t.ask("/set nohistory")
        t.ask("a secret of mine")
        self.leave(t)
        kept = self.path / "state" / "history"
        self.assertEqual(stat.S_IMODE(kept.stat().st_mode), 0o600)
        self.assertEqual(json.loads(kept.read_text()), [FRANCE, "/set nohistory"])
        t = self.chat(*GREEDY)
        t.type("\x1b[A\x1b[A")
        t.wait_for(re.escape(FRANCE))
        self.assertIn("Paris", t.ask(""))
        self.leave(t)

    def test_chats_at_the_same_time_keep_the_lines_of_both(self):
        one, two = self.chat(), self.chat()
        for t, text in ((one, "/? keys"), (two, "/? set"), (one, "/? show")):
            t.ask(text)
        kept = self.path / "state" / "history"
        self.assertEqual(json.loads(kept.read_text()), ["/? keys", "/? set", "/? show"])
        kept.write_text(json.dumps([1] + [f"line {i}" for i in range(2000)]))
        one.ask("/? keys")
        now = json.loads(kept.read_text())
        self.assertEqual((len(now), now[-2:]), (1000, ["line 1999", "/? keys"]))
        self.leave(one)
        self.leave(two)

    def test_a_paste_is_one_message_and_obeys_nothing(self):
        t = self.chat(*GREEDY)
        t.type("\x1b[200~What is\n\tthe capital\x04\x15\x1b[A\nof France?\r\x1b[201~")
        t.wait_for("of France\\?\u23ce")
        t.ask("")
        t.type("\x1b[200~/clear\x1b[201~\x1b[D\x0b\x15")  # keys are keys again
        t.ask("/save paste")
        self.assertEqual(self.saved("paste")["messages"][0]["content"], "What is\n\tthe capital[A\nof France?\n")
        self.leave(t)
        self.environment["TERM"] = "dumb"
        t = self.chat(*GREEDY)
        t.ask("/? keys")
        self.leave(t)
        self.assertNotIn(b"\x1b", t.shown)

    def test_a_history_of_something_else_is_no_obstacle(self):
        (self.path / "state").mkdir()
        for data in (b"", b"\0\xff\xfe", b"{}", b'[1, null, "kept"]', b"[" * 100000):
            (self.path / "state" / "history").write_bytes(data)
            self.leave(self.chat())

    # ---- what is shown ----

    def test_lines_are_broken_between_words_and_orders_are_not_obeyed(self):
        t = self.chat(*GREEDY, columns=20)
        self.assertEqual(t.ask(FRANCE).splitlines()[:-1], ["The capital of ", "France is Paris."])
        t.ask("/set nowordwrap")
        self.assertIn("The capital of France is Paris.", t.ask(FRANCE))
        self.leave(t)

    def test_reasoning_is_dim_and_no_part_of_the_answer(self):
        template = self.path / "thinks.jinja"
        template.write_text("{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
                            "{% endfor %}{{ '<|im_start|>assistant\\n' }}"
                            "{% if enable_thinking %}{{ '<think>\\n' }}{% endif %}{# </think> #}")
        t = self.chat(*GREEDY, "--chat-template", str(template), "--think", "on")
        said = t.ask(FRANCE)
        self.assertTrue(said.startswith("Thinking...\n\n"), said)
        self.assertIn(b"\x1b[2mThinking...", t.shown)
        t.ask("/set nothink")
        self.assertNotIn("Thinking", t.ask(FRANCE))
        t.ask("/save thoughts")
        first, last = [m for m in self.saved("thoughts")["messages"] if m["role"] == "assistant"]
        self.assertEqual(first["content"], "")
        self.assertTrue(first["reasoning_content"])
        self.assertNotIn("reasoning_content", last)
        self.leave(t)
        done = subprocess.run([SHOAL, "run", DEMO, FRANCE, *GREEDY, "--chat-template", template, "--think", "on"],
                              stdin=subprocess.DEVNULL, capture_output=True, env=self.environment, check=True)
        self.assertEqual(done.stdout, b"")

    # ---- the context's end ----

    def test_the_oldest_turns_go_when_the_context_is_full(self):
        t = self.chat(*GREEDY, "--context", "160")
        said = [t.ask(FRANCE) for _ in range(8)]
        self.assertTrue(all("Paris" in s for s in said), said)
        self.assertRegex("".join(said), r"the context of 160 tokens is full: the model no longer sees the first \d+ ")
        self.assertRegex(t.ask("word " * 200), r"have \d+ tokens, and the context holds 160")
        self.assertIn("16 messages", t.ask("/show info"))
        self.assertIn("Paris", t.ask(FRANCE))
        self.leave(t)

    def test_an_answer_that_fills_the_context_is_said_to_be_cut(self):
        t = self.chat(*ENDLESS, "--context", "64")
        self.assertIn("the answer was cut: the context of 64 tokens is full", t.ask("Speak."))
        self.leave(t)

    def test_a_model_with_a_state_is_told_all_again_where_it_cannot_go_back(self):
        model = self.path / "state.gguf"
        subprocess.run([SHOAL, "synth", "qwen3next", model, "--layers", "4", "--hidden", "64", "--heads", "2",
                        "--kv-heads", "1", "--head-dim", "32", "--experts", "2", "--experts-used", "1",
                        "--expert-ffn", "32", "--vocab", "2048", "--type", "f16", "--tokenizer", DEMO], check=True,
                       env=self.environment, capture_output=True)
        t = self.chat("-n", "4", "--verbose", *GREEDY, model=str(model), ready=False)
        t.wait_for(">>> ")
        t.ask("One two three")
        t.ask("/clear")
        said = t.ask("One two four")
        prompt, new = map(int, re.search(r"prompt +(\d+) tokens, (\d+) of them new", said).groups())
        self.assertEqual(new, prompt)
        self.assertIn("2 messages", t.ask("/show info"))
        self.leave(t)

    def test_without_a_template_text_goes_on_and_nothing_is_kept(self):
        t = self.chat(*GREEDY, "--raw", "-n", "4")
        first = t.ask("One two three")
        self.assertEqual(t.ask("One two three"), first)
        self.assertIn("--raw", t.ask("/save a") and t.ask("/load a"))
        self.assertIn("as it is", t.ask("/show template"))
        self.leave(t)

    # ---- without a terminal ----

    def test_a_pipe_or_a_file_comes_before_the_prompt(self):
        def run(*arguments, **more):
            return subprocess.run([SHOAL, "run", DEMO, *arguments, *GREEDY], capture_output=True,
                                  env=self.environment, check=False, timeout=60, **more)
        half = self.path / "half"
        half.write_bytes(b"What is the capital\n")
        whole = run("What is the capital\n\nof France?", stdin=subprocess.DEVNULL)
        self.assertEqual(whole.returncode, 0, whole.stderr)
        self.assertEqual(run("of France?", input=b"What is the capital\n\n").stdout, whole.stdout)
        with half.open("rb") as file:
            self.assertEqual(run("of France?", stdin=file).stdout, whole.stdout)
        self.assertIn(b"Paris", run(input=FRANCE.encode()).stdout)
        for data in (b"", b"\n\n"):
            done = run(input=data)
            self.assertEqual((done.returncode, done.stdout), (64, b""))
            self.assertIn(b"the prompt is empty", done.stderr)
        self.assertEqual(run(input=b"a\0b").returncode, 64)
        self.assertEqual(run(input=b"\xff\xfe").returncode, 64)


if __name__ == "__main__":
    unittest.main()
