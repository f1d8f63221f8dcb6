"""Pictures of what people get: the e-mail of a run, as a mail server received it, rendered by headless Chromium.

    python tests/pictures.py [FOLDER]

writes `email.png`, the picture in the README, to FOLDER (tests/pictures), and beside it, to look at, `phone.png` and
`dark.png`; and prints the same message as a chat gets it, 80 columns wide, and its title as a lock screen cuts it. The
run is the README's own, of tests/data. Needs Chromium (Debian: `apt-get install chromium`) and the extra `test`.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import textwrap
import warnings
from email.message import EmailMessage
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from modelwarden.sinks.chat.destinations import Destination
from modelwarden.sinks.chat.digest import Message, RunNews, run_message
from modelwarden.sinks.chat.plot import caption_of, fitness_plot
from modelwarden.sinks.protocol import Delivered
from servers import smtp_server
from summaries import judged_run

SUMMARY = Path(__file__).parent / "data" / "training_summary_20241224_153000.json"
"""The summary of the README's first commands, of which it shows the report."""

ON = ("APPROVED", "REVIEW", "DROP")
LOCK_SCREEN = 60
"""Characters of a title that a phone shows, about."""

DESKTOP, PHONE = 760, 390
"""Widths in CSS pixels."""

TALL = 3000
CLIENT = "font:14px -apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"


def message_of(summary: dict[str, Any]) -> Message:
    """The message that a destination gets which asked for all classes."""
    run, models = judged_run(summary)
    report = f"/srv/modelwarden/archives/{run.timestamp}/recommendations.md"
    news = RunNews(run.timestamp, run.run_name, run.archived_by, report, run.counts, run.policy, models)
    picture = fitness_plot(news) or b""
    return run_message(news, ON)._replace(picture=picture, caption=caption_of(news), mark=run.sha256[:8])


def received(message: Message) -> EmailMessage:
    """The same as a mail server got it."""
    with smtp_server() as server:
        assert Destination("team", server.url("passw0rd"), ON).send(message, 30) == Delivered()
        (mail,) = server.mails
    return mail


def write_picture(mail: EmailMessage, width: int, path: Path, *, dark: bool = False) -> None:
    """The mail as a client of that width shows it: subject and page, with the pictures that came along."""
    page = mail.get_body(("html",))
    assert page is not None
    document = page.get_content()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for picture in mail.iter_attachments():
            (place / str(picture.get_filename())).write_bytes(picture.get_content())
            document = document.replace(f"cid:{picture['Content-ID'].strip('<>')}", str(picture.get_filename()))
        (place / "page.html").write_text(document, encoding="utf-8")
        fit = "page.style.height = page.contentDocument.documentElement.offsetHeight + 'px'"
        ground = "background:#000;color:#eee;color-scheme:dark" if dark else "background:#fff"
        (place / "client.html").write_text(
            f'<meta charset="utf-8"><body style="margin:0;width:{width}px;{ground}"><div style="padding:0 12px">'
            f'<p style="{CLIENT};font-weight:bold;margin:0;padding:14px 0 10px;border-bottom:1px solid #ddd">'
            f"{escape(mail['Subject'])}</p>"
            f'<iframe src="page.html" style="border:0;width:100%;height:{TALL // 2}px" id="page"></iframe></div>'
            f"<script>onload = () => {fit}</script>",
            encoding="utf-8",
        )
        render(place / "client.html", width, path, "black" if dark else "white")


def render(page: Path, width: int, path: Path, ground: str) -> None:
    """A page as Chromium draws it, without the empty ground below."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("no Chromium here: apt-get install chromium")
    raw = page.with_suffix(".png")
    subprocess.run(
        [
            *(
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--virtual-time-budget=3000",
                *(("--blink-settings=preferredColorScheme=0",) if ground == "black" else ()),
            ),
            *("--allow-file-access-from-files", f"--user-data-dir={page.parent / 'profile'}"),
            *(f"--window-size={max(width, 500)},{TALL}", f"--screenshot={raw}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
    )
    picture = Image.open(raw).convert("RGB").crop((0, 0, width, TALL))
    below = ImageChops.difference(picture, Image.new("RGB", picture.size, ground)).getbbox()
    assert below is not None
    picture = picture.crop((0, 0, width, below[3] + 12))
    picture.quantize(128).save(path, optimize=True)
    sys.stdout.write(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB\n")


def main() -> None:
    """Draw all of it."""
    warnings.simplefilter("ignore", DeprecationWarning)  # Apprise's import
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "pictures")
    folder.mkdir(exist_ok=True)
    message = message_of(json.loads(SUMMARY.read_bytes()))
    mail = received(message)
    write_picture(mail, DESKTOP, folder / "email.png")
    write_picture(mail, PHONE, folder / "phone.png")
    write_picture(mail, DESKTOP, folder / "dark.png", dark=True)
    sys.stdout.write(f"\n{textwrap.shorten(message.title, LOCK_SCREEN, placeholder='…')}\n\n")
    for line in message.body.splitlines():
        sys.stdout.write(textwrap.fill(line, 80, subsequent_indent="    ") + "\n")


if __name__ == "__main__":
    main()
