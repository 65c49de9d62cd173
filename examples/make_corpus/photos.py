"""The pictures of text: a photographed notice, a photographed receipt and a screenshot of a terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from . import paper
from .common import font_path

NOTICE = [  # text, font, pixels, gap below
    ("SENN FERRY COMPANY", "DejaVuSans-Bold", 46, 34),
    ("KESTLE QUAY LANDING", "DejaVuSans-Bold", 64, 62),
    ("Do not board while the ramp lamp is red.", "DejaVuSans", 38, 26),
    ("Keep behind the yellow line.", "DejaVuSans", 38, 26),
    ("Bicycles board last.", "DejaVuSans", 38, 26),
    ("Fine for blocking the ramp: 75 pounds", "DejaVuSans", 38, 56),
    ("LAST FERRY TO MARROWICK 23:15", "DejaVuSans-Bold", 50, 56),
    ("Lost property: window 3, from 08:00 to 18:00", "DejaVuSans", 36, 22),
    ("In an emergency call Senn Control, VHF channel 16", "DejaVuSans", 36, 0),
]

RECEIPT = """\
       GANNET CHANDLERY
   4 Ropewalk, Kestle Quay
      Tel. 01632 960 448

Receipt No. 20817
11-02-2025            16:42
---------------------------
Mooring rope 24 mm, 30 m
  2 x 148.00         296.00
Galvanised shackle
  4 x   6.50          26.00
Bearing grease, tube
  1 x  11.80          11.80
---------------------------
TOTAL                333.80
Card payment         333.80

Served by Wilf Tregear
Collected by J. Pike

Goods may be returned
within 28 days with this
receipt. Cut rope is not
taken back."""

TERMINAL = [  # (colour, text) pieces, one list a line
    [("prompt", "watch@gatehouse"), ("text", ":"), ("path", "~"), ("text", "$ chargectl status --berth 2")],
    [("title", "berth 2, Kestle Quay"), ("dim", "                  11 Feb 2025 02:31")],
    [],
    [("dim", "vessel       "), ("text", "Wagtail")],
    [("dim", "state        "), ("good", "CHARGING")],
    [("dim", "power        "), ("text", "178 kW")],
    [("dim", "battery      "), ("text", "64 %")],
    [("dim", "ready at     "), ("text", "03:45")],
    [("dim", "coolant      "), ("text", "31.5 C")],
    [("dim", "plug lock    "), ("good", "closed")],
    [("dim", "last fault   "), ("bad", "E-217 pilot signal lost"), ("text", " at 01:07")],
    [("dim", "retries      "), ("text", "1 of 4")],
    [],
    [
        ("prompt", "watch@gatehouse"),
        ("text", ":"),
        ("path", "~"),
        ("text", '$ chargectl note add "cable wet, wiped dry"'),
    ],
    [("text", "note 52 saved by Hollis Vane")],
    [("prompt", "watch@gatehouse"), ("text", ":"), ("path", "~"), ("text", "$ "), ("text", "\u2588")],
]
COLOURS = {
    "prompt": "#7ec699",
    "path": "#6cb6ff",
    "text": "#d7dde4",
    "dim": "#8b97a5",
    "title": "#f2c66d",
    "good": "#7ee787",
    "bad": "#ff8a80",
}


def _save_jpeg(image: Image.Image, path: Path, *, quality: int) -> None:
    image.convert("RGB").save(path, "JPEG", quality=quality, optimize=True, progressive=True)


def _boards(size: tuple[int, int], *, seed: int, base: tuple[int, int, int]) -> Image.Image:
    """A wall of horizontal wooden boards, each with its own tone and a streaky grain."""
    height = size[1]
    rng = np.random.default_rng(seed)
    streaks = Image.fromarray(rng.integers(0, 256, (height, 12), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    tone = np.repeat(rng.normal(1, 0.09, height // 120 + 1), 120)[:height, None]
    light = tone * (0.86 + 0.24 * np.asarray(streaks, dtype=np.float32) / 255)
    light[np.arange(height) % 120 < 5] *= 0.45  # the gaps
    return Image.fromarray(np.clip(np.array(base) * light[..., None], 0, 255).astype(np.uint8))


def _notice_board() -> Image.Image:
    """The enamel plate, face on: white, a navy rim, four screws, some rust."""
    plate = Image.new("RGBA", (1180, 830), (0, 0, 0, 0))
    draw = ImageDraw.Draw(plate)
    draw.rounded_rectangle((0, 0, 1179, 829), 34, fill=(242, 241, 233, 255))
    draw.rounded_rectangle((16, 16, 1163, 813), 24, outline=(20, 52, 94, 255), width=10)
    for x, y in ((52, 52), (1128, 52), (52, 778), (1128, 778)):
        draw.ellipse((x - 26, y - 20, x + 22, y + 34), fill=(176, 120, 74, 70))  # rust below the screw
        draw.ellipse(
            (x - 13, y - 13, x + 13, y + 13), fill=(150, 152, 150, 255), outline=(90, 90, 90, 255), width=2
        )
        draw.line((x - 9, y - 6, x + 9, y + 6), fill=(70, 70, 70, 255), width=3)
    y = 72
    for text, name, pixels, gap in NOTICE:
        font = ImageFont.truetype(font_path(name), pixels)
        colour = (168, 32, 30, 255) if text.startswith("LAST") else (20, 52, 94, 255)
        draw.text((590, y), text, font=font, fill=colour, anchor="mt")
        y += pixels + gap
    return plate


def write_notice(path: Path) -> None:
    """photos/quay-notice.jpg: the notice on the boards of the ticket hut, taken from a little to the left."""
    size = (1440, 1080)
    wall = _boards(size, seed=8, base=(104, 126, 122)).convert("RGBA")
    corners = [(126.0, 118.0), (1322.0, 158.0), (1306.0, 946.0), (142.0, 972.0)]
    plate = paper.warp(_notice_board(), corners, size=size)
    shadow = Image.new("RGBA", size, (0, 0, 0, 0))
    shadow.paste((10, 18, 20, 150), (12, 18), plate.getchannel("A"))
    scene = Image.alpha_composite(wall, shadow.filter(ImageFilter.GaussianBlur(9)))
    scene = Image.alpha_composite(scene, plate).convert("RGB")
    scene = paper.shade(paper.soften(scene, 0.9), seed=5, depth=0.3)
    _save_jpeg(paper.grain(scene, seed=9, sigma=5), path, quality=72)


def write_receipt(path: Path) -> None:
    """photos/chandlery-receipt.jpg: a till receipt that lies on a workbench, a little turned."""
    lines = RECEIPT.split("\n")
    font = ImageFont.truetype(font_path("DejaVuSansMono"), 30)
    width, pitch = 27 * round(font.getlength("0")) + 90, 42
    slip = Image.new("L", (width, pitch * len(lines) + 130), 246)
    ink = Image.new("L", slip.size, 0)
    draw = ImageDraw.Draw(ink)
    for row, line in enumerate(lines):
        bold = row == 0 or line.startswith("TOTAL")
        face = ImageFont.truetype(font_path("DejaVuSansMono-Bold"), 30) if bold else font
        draw.text((45, 60 + row * pitch), line, font=face, fill=230)
    slip.paste(40, mask=paper.worn_ink(ink, seed=20, loss=0.35))
    slip = paper.shade(slip, seed=3, depth=0.1).convert("RGBA")
    size = (slip.width + 330, slip.height + 150)
    bench = _boards(size, seed=12, base=(122, 84, 56)).convert("RGBA")
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    layer.paste(slip, (165, 75))
    layer = layer.rotate(-1.6, Image.Resampling.BICUBIC)
    shadow = Image.new("RGBA", size, (0, 0, 0, 0))
    shadow.paste((12, 8, 4, 150), (7, 10), layer.getchannel("A"))
    scene = Image.alpha_composite(bench, shadow.filter(ImageFilter.GaussianBlur(7)))
    scene = Image.alpha_composite(scene, layer).convert("RGB")
    scene = paper.shade(paper.soften(scene, 0.7), seed=6, depth=0.22)
    _save_jpeg(paper.grain(scene, seed=21, sigma=4), path, quality=68)


def write_terminal(path: Path) -> None:
    """photos/charger-terminal.png: a screenshot of the program that runs the charger."""
    font = ImageFont.truetype(font_path("DejaVuSansMono"), 28)
    advance, pitch, bar = font.getlength("0"), 42, 52
    image = Image.new("RGB", (1220, bar + pitch * len(TERMINAL) + 44), "#10161d")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, image.width, bar), fill="#2a323c")
    for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        draw.ellipse((20 + 32 * number, 17, 38 + 32 * number, 35), fill=colour)
    title = ImageFont.truetype(font_path("DejaVuSans"), 24)
    draw.text(
        (image.width // 2, bar // 2), "watch@gatehouse: chargectl", font=title, fill="#b8c2cd", anchor="mm"
    )
    for row, pieces in enumerate(TERMINAL):
        x = 28.0
        for colour, text in pieces:
            draw.text((x, bar + 22 + row * pitch), text, font=font, fill=COLOURS[colour])
            x += advance * len(text)
    image.quantize(64, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)
