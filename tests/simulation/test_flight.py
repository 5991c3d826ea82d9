"""How targets fly, grow dim and hide."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import trapezoid

from irst_pipeline.simulation import SceneSettings, TrueFrame, simulate
from irst_pipeline.simulation.flight import ManoeuvreSettings, TargetSettings
from irst_pipeline.types import Floats
from tests.simulation.small_scenes import frames_of, images, path_of, rows, scene, target

MANOEUVRES = [
    {"first_frame": 20, "last_frame": 60, "turn_deg_s": 90},
    {"first_frame": 60, "last_frame": 110, "turn_deg_s": -50, "acceleration_px_s2": 12},
    {"first_frame": 130, "last_frame": 180, "acceleration_px_s2": -30},
]
OPAQUE = {"coverage": 0.4, "thickness": 20.0, "contrast": 30, "drift_px_s": [0, 0]}


def test_the_velocity_of_a_manoeuvring_target_is_the_derivative_of_its_position() -> None:
    flight = TargetSettings(**target(vx_px_s=40.0, vy_px_s=-9.0, manoeuvres=MANOEUVRES))
    step, rate = 1e-3, 25.0
    for frame in np.arange(0.5, 200, 0.73):
        before, after = (flight.motion(frame + sign * step, rate)[0] for sign in (-1, 1))
        velocity = flight.motion(frame, rate)[1]
        assert (after - before) / (2 * step / rate) == pytest.approx(velocity, abs=2e-3)


def test_a_turn_keeps_the_speed_and_is_clockwise_in_the_image() -> None:
    turn = {"first_frame": 0, "last_frame": 25, "turn_deg_s": 90}
    path = path_of(frames_of(frames=26, targets=[target(vx_px_s=20, manoeuvres=[turn])]))
    assert np.hypot(*path[:, 2:].T) == pytest.approx(20)
    assert path[-1, 2:] == pytest.approx([0, 20]), "right becomes down"
    radius = 20 / np.deg2rad(90)
    assert path[-1, :2] == pytest.approx([20 + radius, 20 + radius])
    assert np.hypot(*(path[:, :2] - [20, 20 + radius]).T) == pytest.approx(radius)


def test_acceleration_is_along_the_flight() -> None:
    flight = TargetSettings(**target(vx_px_s=3.0, vy_px_s=4.0, manoeuvres=MANOEUVRES[2:]))
    (way, velocity), (back, _) = (flight.motion(frame, 10.0) for frame in (140, 180))
    assert velocity == pytest.approx((3 + 4j) * (5 - 30) / 5), "it was too slow for 1 s of braking, and comes back"
    assert way == pytest.approx(20 + 20j + (3 + 4j) / 5 * (5 * 14 - 15))
    assert back == pytest.approx(20 + 20j + (3 + 4j) / 5 * (5 * 18 - 15 * 25))


@pytest.mark.parametrize("turn", [1e-7, 0.5, 400.0, 3600.0])
def test_a_manoeuvre_is_the_integral_of_its_velocity(turn: float) -> None:
    flown = ManoeuvreSettings(first_frame=0, last_frame=1, turn_deg_s=turn, acceleration_px_s2=25.0)
    seconds = np.linspace(0, 3, 30_001)
    velocity = (50 + 25 * seconds) * np.exp(1j * (0.4 + np.deg2rad(turn) * seconds))
    way, end = flown.flown(velocity[0], 3.0)
    assert end == pytest.approx(velocity[-1])
    assert way == pytest.approx(trapezoid(velocity, seconds), abs=1e-4)


def test_a_target_dims_to_the_set_share_and_comes_back() -> None:
    dimming = [{"first_frame": 10, "last_frame": 50, "share": 0.3}]
    frames = frames_of(frames=61, targets=[target(snr=400, dimming=dimming)])
    snr = np.array([frame.targets[0].snr for frame in frames])
    assert snr[[0, 10, 50, 60]] == pytest.approx(400)
    assert snr[30] == pytest.approx(120) == snr.min()
    assert (np.diff(snr[10:31]) < 0).all()
    assert snr[10:51] == pytest.approx(snr[50:9:-1])
    peak = images(frames)[:, 20, 20] - 7300
    assert peak / 3 == pytest.approx(snr, abs=5), "the image shows it so, over noise of 3 levels"


def hidden_flight(**settings: Any) -> tuple[list[TrueFrame], Floats]:
    """A target that flies through a bank of opaque cloud and out of it, and its signal over the scene without it."""
    tree: dict[str, Any] = {"frames": 60, "clouds": OPAQUE, "sensor": {"read_noise": 0.5}}
    tree["targets"] = [target(x_px=-1.0, y_px=24.0, vx_px_s=27.5, snr=200, **settings)]
    frames = frames_of(seed=4, **tree)
    signal = images(frames) - images(frames_of(seed=4, **{**tree, "targets": []}))
    return frames, signal.sum(axis=(1, 2))


def test_a_target_behind_an_opaque_cloud_is_not_seen_and_returns() -> None:
    frames, signal = hidden_flight(behind_clouds=True)
    visible = "".join(str(int(frame.targets[0].visible)) for frame in frames)
    seen, hidden, again = (visible.index(change) for change in ("01", "10", "00001"))
    assert seen < hidden < again, "it comes into the frame, goes behind the cloud and returns"
    snr = np.array([frame.targets[0].snr for frame in frames])
    inside = np.array([3 < frame.targets[0].x < 60 for frame in frames])
    assert (snr >= 1)[inside].astype(int).tolist() == [
        int(flag) for flag, here in zip(visible, inside, strict=True) if here
    ]
    assert np.abs(signal[snr < 0.1]).max() < 0.02 * signal.max()
    assert (signal / signal[inside].max())[inside] == pytest.approx((snr / snr[inside].max())[inside], abs=0.1)


def test_a_target_before_the_clouds_is_always_seen() -> None:
    frames, signal = hidden_flight()
    inside = np.array([3 < frame.targets[0].x < 60 for frame in frames])
    assert signal[inside] == pytest.approx(np.full(inside.sum(), signal[inside].max()), rel=0.1)
    assert {frame.targets[0].snr for frame in frames} == {200}


def test_clouds_let_through_what_they_do_not_emit() -> None:
    """A cloud that emits the share e of a black body's light lets 1 - e of a target through."""
    clouds = {**OPAQUE, "thickness": 1.0, "contrast": 400}
    sky = images(frames_of(frames=1, clouds=clouds, sensor={"read_noise": 1e-3}))[0]
    for x, y in [(5, 5), (30, 20), (50, 40), (60, 10)]:
        place = target(x_px=x, y_px=y, behind_clouds=True)
        (frame,) = frames_of(frames=1, clouds=clouds, sensor={"read_noise": 1e-3}, targets=[place])
        assert frame.targets[0].share == pytest.approx(1 - (sky[y, x] - 7300) / 400, abs=0.002)


def test_hidden_targets_are_in_the_mot_truth_but_not_considered(tmp_path: Path) -> None:
    dimming = [{"first_frame": 0, "last_frame": 10, "share": 0}]
    settings = scene(frames=11, targets=[target(), target(x_px=40.0, dimming=dimming)])
    simulate(settings, tmp_path, 1)
    boxes = [[float(cell) for cell in line.split(",")] for line in (tmp_path / "truth.mot.txt").open()]
    truth = rows(tmp_path / "truth.csv")
    assert [(box[0] - 1, box[1], box[6]) for box in boxes] == [
        (row["frame"], row["id"], row["visible"]) for row in truth
    ]
    assert {box[8] for box in boxes if box[1] == 1} == {1}
    of_second = {box[0] - 1: (box[6], box[8]) for box in boxes if box[1] == 2}
    assert of_second[5] == (0, 0)
    assert of_second[0] == of_second[10] == (1, 1)
    assert of_second[3] == pytest.approx((1, 1 - np.sin(0.3 * np.pi) ** 2), abs=1e-4)


def midway(settings: SceneSettings, frames: list[TrueFrame]) -> Floats:
    """(n, 4) x, y, vx, vy of all targets at half time."""
    return np.array([(state.x, state.y, state.vx, state.vy) for state in frames[settings.frames // 2].targets])


def test_crossings_meet_at_half_time_at_an_angle() -> None:
    random = {"crossings": 20, "speed_px_s": [20, 30], "snr": [6, 7]}
    path = midway(scene(random=random), frames_of(random=random)).reshape(20, 2, 4)
    assert path[:, 0, :2] == pytest.approx(path[:, 1, :2])
    assert len(np.unique(path[:, 0, 0].round(3))) == 20
    headings = np.rad2deg(np.arctan2(path[..., 3], path[..., 2]))
    apart = np.abs((headings[:, 0] - headings[:, 1] + 180) % 360 - 180)
    assert apart.min() >= 30 - 1e-6
    assert apart.max() <= 150 + 1e-6
    assert np.ptp(apart) > 60
    assert ((path[..., :2] >= 0) & (path[..., :2] <= [63, 47])).all()


def test_pairs_fly_side_by_side() -> None:
    for frame in frames_of(random={"pairs": 10, "separation_px": 3.5}):
        assert len(frame.targets) == 20
        for one, other in zip(frame.targets[::2], frame.targets[1::2], strict=True):
            gap = np.array([other.x - one.x, other.y - one.y])
            assert np.hypot(*gap) == pytest.approx(3.5)
            assert (one.vx, one.vy) == (other.vx, other.vy)
            assert gap @ [one.vx, one.vy] == pytest.approx(0, abs=1e-6)


def test_random_targets_turn_at_the_set_rates_and_are_in_view_at_half_time() -> None:
    random = {"count": 20, "manoeuvres": 2, "turn_deg_s": [40, 90], "speed_px_s": [20, 30]}
    camera = {"pan_px_s": [60, -10], "roll_deg_s": 20}
    assert all(state.visible for state in frames_of(frames=100, random=random, camera=camera)[50].targets)
    frames = frames_of(frames=100, random=random)
    assert all(state.visible for state in frames[50].targets)
    for number in range(20):
        velocity = path_of(frames, number)[:, 2:] @ [1, 1j]
        assert np.abs(velocity) == pytest.approx(np.abs(velocity[0]))
        turned = np.rad2deg(np.abs(np.angle(velocity[1:] / velocity[:-1]))) * 25
        turning = turned[turned > 1e-6]
        assert len(turning) == 50, "half of the time"
        assert turning.min() >= 40 - 1e-6
        assert turning.max() <= 90 + 1e-6


def test_kinds_of_random_targets_do_not_disturb_one_another() -> None:
    alone = frames_of(random={"count": 3})[0].targets
    more = frames_of(random={"count": 3, "crossings": 2, "pairs": 1})[0].targets
    assert more[:3] == alone
    assert len(more) == 9
    assert all((a.x, a.y) != (b.x, b.y) for a, b in combinations(more, 2))
