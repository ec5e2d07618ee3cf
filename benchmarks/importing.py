"""How long `import flovyn` takes, over what Python itself does.

python benchmarks/importing.py [TIMES]

Each import is in a process of its own, with compiled modules at hand, as in any deployment. What is measured is the
time that the processor spends on it, which the machine's other work changes little. Behind the least stands its target.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile

TARGET_MS = 110

PROGRAMS = {
    "import flovyn": "import flovyn",
    "the same, and a client that connects": (
        "import anyio, flovyn\n"
        "async def main():\n"
        "    async with flovyn.connect(org_id='00000000-0000-4000-8000-000000000001'): pass\n"
        "anyio.run(main)"
    ),
    "pydantic, for comparison": "from pydantic import BaseModel",
    "anyio and asyncio, for comparison": "import anyio, asyncio",
}


def took(program: str, env: dict[str, str]) -> float:
    """Milliseconds that the processor has spent on a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], env=env, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1_000


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as compiled:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = compiled
        programs = {"python itself": "pass", **PROGRAMS}
        for program in programs.values():
            took(program, env)
        # In turns, so that all of them share the machine's good and bad moments.
        rounds = [{name: took(program, env) for name, program in programs.items()} for _ in range(times)]
    bare = min(each["python itself"] for each in rounds)
    print(f"{'':38} {'least':>8} {'median':>8}   ms over python itself ({bare:.0f} ms)")
    for name in PROGRAMS:
        over = [each[name] - bare for each in rounds]
        target = f"   <= {TARGET_MS}" if name == "import flovyn" else ""
        print(f"{name:38} {min(over):8.1f} {statistics.median(over):8.1f}{target}")


if __name__ == "__main__":
    main()
