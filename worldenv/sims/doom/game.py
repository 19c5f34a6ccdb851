"""One ViZDoom instance as a camera that can be placed and pushed."""

from __future__ import annotations

import ctypes
import math
import os
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ...base.objects import import_extra
from ...dynamics.spec import WorldSpec
from .engine import Engine
from .maze import Array
from .pwad import PLAYER_THRUST, UNITS, read_lump
from .render import LevelView, Resampler
from .scratch import inherited

T = TypeVar("T")
WARM_UP_TICS = 20
"""Tics after loading a map during which the engine ignores input."""
THRUST = PLAYER_THRUST / 2048
"""Map units that 1 of a movement delta moves the player in one tic; deltas are whole numbers up to 50."""
MAX_THRUST = 50
"""Largest movement delta."""
TURN_STEP = 360 / 65536
"""Degrees in one step of the engine's turn."""

_VARIABLES = ("CAMERA_POSITION_X", "CAMERA_POSITION_Y", "CAMERA_POSITION_Z", "CAMERA_ANGLE")
_BUTTONS = ("MOVE_FORWARD_BACKWARD_DELTA", "MOVE_LEFT_RIGHT_DELTA", "TURN_LEFT_RIGHT_DELTA")
_HIDDEN = (
    "hud",
    "weapon",
    "crosshair",
    "messages",
    "decals",
    "particles",
    "screen_flashes",
    "effects_sprites",
    "corpses",
)
_ARGUMENTS = "+sv_cheats 1 +movebob 0 -nomonsters"


def load_vizdoom() -> Any:
    """Import vizdoom.

    Raises:
        ImportError: if it is not installed.
    """
    return import_extra("vizdoom", extra="sims", needs="the simulators need ViZDoom")


def freedoom_wad(number: int) -> Path:
    """Return the path of freedoom1.wad or freedoom2.wad in the ViZDoom wheel.

    Raises:
        FileNotFoundError: if this ViZDoom ships without it.
    """
    path = Path(load_vizdoom().__file__).parent / f"freedoom{number}.wad"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; install the vizdoom wheel, which ships the Freedoom WADs")
    return path


class Placement(NamedTuple):
    """An upright camera in plain numbers, world axes, metres and radians."""

    x: float
    y: float
    z: float
    yaw: float
    pitch: float


class DoomGame:
    """One hidden engine, one map at a time: teleport, push, look. It works in a folder beside its map file."""

    def __init__(self, spec: WorldSpec, *, wad: Path, pwad: Path, view: LevelView | None = None) -> None:
        vizdoom = load_vizdoom()
        self.spec, self.view = spec, view or LevelView.for_spec(spec)
        palette = np.frombuffer(read_lump(wad, "PLAYPAL")[:768], np.uint8).reshape(256, 3)
        K = spec.K.double().numpy()
        self._resampler = Resampler(self.view, K, width=spec.width, height=spec.height, palette=palette)
        self._own: Any = vizdoom.DoomGame()
        _games.add(self)
        game = self._game
        folder = Path(tempfile.mkdtemp(prefix="engine-", dir=pwad.resolve().parent))
        self._engine = Engine(Path(vizdoom.__file__).parent / "vizdoom", folder)
        game.set_vizdoom_path(str(self._engine.starter))
        game.set_doom_game_path(str(wad.resolve()))
        game.set_doom_scenario_path(str(pwad.resolve()))
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        game.set_screen_format(vizdoom.ScreenFormat.DOOM_256_COLORS8)
        game.set_screen_resolution(getattr(vizdoom.ScreenResolution, f"RES_{self.view.width}X{self.view.height}"))
        for part in _HIDDEN:
            getattr(game, f"set_render_{part}")(False)
        game.set_mode(vizdoom.Mode.PLAYER)
        game.set_episode_timeout(0)
        game.set_available_buttons([getattr(vizdoom.Button, name) for name in _BUTTONS])
        game.set_available_game_variables([getattr(vizdoom.GameVariable, name) for name in _VARIABLES])
        game.add_game_args(_ARGUMENTS)
        game.set_seed(0)
        self.pitch = 0.0
        self._x = self._y = self._z = self._angle = 0.0
        self._screen: Array

    def load_map(self, name: str) -> None:
        """Start a map afresh.

        Raises:
            ChildProcessError: if the engine has died; so do all that move it.
        """
        self._call(lambda game: self._load(game, name))
        self.pitch = 0.0
        self._act([0, 0, 0], WARM_UP_TICS)

    def _load(self, game: Any, name: str) -> None:
        game.set_doom_map(name)
        if game.is_running():
            game.new_episode()
        else:
            game.init()
            self._engine.started()
        game.send_game_command(f"fov {self.view.fov_deg}")

    def close(self) -> None:
        """Stop the engine, unless it is the parent's of a forked process or has died."""
        if self._own is not None and not self._engine.lost:
            self._engine.run(self._own.close)

    def _call(self, call: Callable[[Any], T]) -> T:
        game = self._game
        return self._engine.run(lambda: call(game))

    @property
    def _game(self) -> Any:
        if self._own is None:
            raise inherited()
        return self._own

    @property
    def placement(self) -> Placement:
        """Where the camera really is, read back from the engine, with the virtual pitch."""
        yaw = math.radians(90 - self._angle)
        return Placement(self._x / UNITS, -self._z / UNITS, self._y / UNITS, yaw, self.pitch)

    def frame(self) -> Array:
        """Return the current view, (H, W, 3) uint8."""
        return self._resampler.frame(self._screen, self.pitch)

    def teleport(self, target: Placement) -> None:
        """Put the camera at this place, within 3 mm and 0.003 degrees; the height is the engine's."""
        x, y = UNITS * target.x, UNITS * target.z
        # The warp knows whole units only and comes after the push of its tic: turn first, unseen, then push.
        turn = self._turn_to(target)
        self._call(lambda game: _warp(game, round(x), round(y), turn))
        self._x, self._y, self._angle = float(round(x)), float(round(y)), self._angle - turn
        self._push(x - self._x, y - self._y, 0.0)

    def move(self, target: Placement) -> None:
        """Push the player towards this place for one tic, with the engine's collisions; pitch is free."""
        self._push(UNITS * target.x - self._x, UNITS * target.z - self._y, self._turn_to(target))

    def _turn_to(self, target: Placement) -> float:
        """Take over the pitch; return the turn to the right in degrees, whole steps of the engine."""
        self.pitch = target.pitch
        turn = math.degrees(target.yaw) - (90 - self._angle)
        return round(((turn + 180) % 360 - 180) / TURN_STEP) * TURN_STEP

    def _push(self, dx: float, dy: float, turn: float) -> None:
        """Turn right by ``turn`` degrees, then move by (dx, dy) map units, cut to the longest step."""
        angle = math.radians(self._angle - turn)
        forward = dx * math.cos(angle) + dy * math.sin(angle)
        right = dx * math.sin(angle) - dy * math.cos(angle)
        longest = max(abs(forward), abs(right), MAX_THRUST * THRUST) / (MAX_THRUST * THRUST)
        self._act([round(forward / longest / THRUST), round(right / longest / THRUST), turn])

    def _act(self, action: list[float], tics: int = 1) -> None:
        state = self._call(lambda game: (game.make_action(action, tics), game.get_state())[1])
        if state is None:
            raise RuntimeError("the Doom episode ended by itself; load the map again")
        self._screen = state.screen_buffer
        self._x, self._y, self._z, self._angle = (float(value) for value in state.game_variables)


def _warp(game: Any, x: int, y: int, turn: float) -> None:
    game.send_game_command(f"warp {x} {y}")
    game.set_action([0, 0, turn])
    game.advance_action(1, False)


_games: weakref.WeakSet[DoomGame] = weakref.WeakSet()


def _disown() -> None:
    """Leave engines to the process that forked this one: closing them here, or deleting what does, would stop them."""
    for game in _games:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(game._own))  # never deleted
        game._own = None


os.register_at_fork(after_in_child=_disown)
