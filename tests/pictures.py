"""Pictures of what people get: the e-mail of a run, as a mail server received it, rendered by headless Chromium.

    python tests/pictures.py [FOLDER]

writes `email.png`, the picture in the README, to FOLDER (tests/pictures), and `phone.png` beside it to look at, and
prints the same message as a chat gets it, 80 columns wide, and its title as a lock screen cuts it. Needs Chromium
(Debian: `apt-get install chromium`) and the extra `test`.
"""

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

from modelwarden.courier.destinations import Destination, Sent
from modelwarden.courier.digest import Message, RunNews, run_message
from modelwarden.courier.plot import fitness_plot
from servers import smtp_server
from summaries import judged_run, random_summary

NAMES = ("AAPL", "AMZN", "BTCUSD", "ETHUSD", "EURUSD", "GOOG", "MSFT", "NVDA", "XAUUSD")
OVERFIT = "MSFT"
"""The model that peaked long before the end."""

ON = ("APPROVED", "REVIEW", "DROP")
LOCK_SCREEN = 60
"""Characters of a title that a phone shows, about."""

DESKTOP, PHONE = 760, 390
"""Widths in CSS pixels."""

TALL = 3000
CLIENT = "font:14px -apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"


def realistic_run() -> dict[str, Any]:
    """A run of nine models with some of each class, and an approved one that was better before."""
    summary = random_summary(5806, models=len(NAMES), points=30)
    summary |= {"timestamp": "20241224_153000", "run_name": "nightly-ppo"}
    for name, model in zip(NAMES, summary["models"], strict=True):
        model["symbol"] = name
        if name == OVERFIT:
            history = model["fitness_history"]
            model["fitness_history"] = [point + 0.09 * (15 <= at < 24) for at, point in enumerate(history)]
    return summary


def message_of(summary: dict[str, Any]) -> Message:
    """The message that a destination gets which asked for all classes."""
    run, models = judged_run(summary)
    report = f"/srv/modelwarden/archives/{run.timestamp}/recommendations.md"
    news = RunNews(run.timestamp, run.run_name, run.archived_by, report, run.counts, run.policy, models)
    return run_message(news, ON)._replace(picture=fitness_plot(news) or b"", mark=run.sha256[:8])


def received(message: Message) -> EmailMessage:
    """The same as a mail server got it."""
    with smtp_server() as server:
        assert Destination("team", server.url("passw0rd"), ON).send(message, 30) == Sent()
        (mail,) = server.mails
    return mail


def write_picture(mail: EmailMessage, width: int, path: Path) -> None:
    """The mail as a client of that width shows it: subject, page, attachment."""
    page = mail.get_body(("html",))
    assert page is not None
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "page.html").write_text(page.get_content(), encoding="utf-8")
        shown = [f'<iframe src="page.html" style="border:0;width:100%;height:{TALL // 2}px" id="page"></iframe>']
        for picture in mail.iter_attachments():
            (place / str(picture.get_filename())).write_bytes(picture.get_content())
            shown.append(f'<img src="{picture.get_filename()}" style="width:100%">')
        fit = "page.style.height = page.contentDocument.documentElement.offsetHeight + 'px'"
        (place / "client.html").write_text(
            f'<meta charset="utf-8"><body style="margin:0;width:{width}px"><div style="padding:0 12px">'
            f'<p style="{CLIENT};font-weight:bold;margin:0;padding:14px 0 10px;border-bottom:1px solid #ddd">'
            f"{escape(mail['Subject'])}</p>{''.join(shown)}</div><script>onload = () => {fit}</script>",
            encoding="utf-8",
        )
        render(place / "client.html", width, path)


def render(page: Path, width: int, path: Path) -> None:
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
            ),
            *("--allow-file-access-from-files", f"--user-data-dir={page.parent / 'profile'}"),
            *(f"--window-size={max(width, 500)},{TALL}", f"--screenshot={raw}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
    )
    picture = Image.open(raw).convert("RGB").crop((0, 0, width, TALL))
    below = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
    assert below is not None
    picture = picture.crop((0, 0, width, below[3] + 12))
    picture.quantize(128).save(path, optimize=True)
    sys.stdout.write(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB\n")


def main() -> None:
    """Draw all of it."""
    warnings.simplefilter("ignore", DeprecationWarning)  # Apprise's import
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "pictures")
    folder.mkdir(exist_ok=True)
    message = message_of(realistic_run())
    mail = received(message)
    write_picture(mail, DESKTOP, folder / "email.png")
    write_picture(mail, PHONE, folder / "phone.png")
    sys.stdout.write(f"\n{textwrap.shorten(message.title, LOCK_SCREEN, placeholder='…')}\n\n")
    for line in message.body.splitlines():
        sys.stdout.write(textwrap.fill(line, 80, subsequent_indent="    ") + "\n")


if __name__ == "__main__":
    main()
