"""Views of a table and an instruction to poses of pick and place, or the reason why there are none.

Composes what the room has: heightmap, network, heights and confidence. No ROS.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.cliport.alignment import Agreement, agreements
from vlm_nodes.cliport.confidence import normalised_entropy, window_mass
from vlm_nodes.cliport.heightmap import EmptyHeightmapError, Heightmap, View, fuse
from vlm_nodes.cliport.matching import WordMatch
from vlm_nodes.cliport.placing import (
    PlacingConfig,
    UnseenError,
    held_object,
    place_height,
)
from vlm_nodes.cliport.policy import Candidate, CliportPolicy, Plan
from vlm_nodes.cliport.poses import PixelPose, poses_of_labels
from vlm_nodes.cliport.vocabulary import sort_words
from vlm_nodes.cliport.workspace import Workspace

Matrix = NDArray[np.float64]

STAGES: Final = ('waiting for images', 'heightmap', 'pick', 'place')
# Views that differ by more than this show everything twice.
_LARGEST_DISAGREEMENT_M: Final = 0.01


@dataclass(frozen=True)
class PlannerConfig:
    """When a plan is given, and how its poses are made.

    Attributes:
        workspace: What the heightmap shows.
        placing: How heights are read.
        tool_down: Whether the tool's z points down at the table.
        least_coverage: Share of the workspace that has to be seen.
        score_radius_m: Half the side of the square whose probability is a pose's score.
        least_pick_score: Below this there is no such thing to pick.
        least_place_score: Below this there is no such place.
        most_pick_entropy: Above this the pick is a guess; 1 allows all.
        most_place_entropy: Above this the place is a guess.
        least_word_match: Below this what would be picked looks like none of the words that are
            looked for (see `matching`), and there is no such thing; 0 allows all.
        refuse_unknown_words: Whether one word that nobody knows is one too many.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    workspace: Workspace = field(default_factory=Workspace)
    placing: PlacingConfig = field(default_factory=PlacingConfig)
    tool_down: bool = True
    least_coverage: float = 0.5
    score_radius_m: float = 0.02
    least_pick_score: float = 0.1
    least_place_score: float = 0.1
    most_pick_entropy: float = 0.9
    most_place_entropy: float = 0.9
    least_word_match: float = 0.4
    refuse_unknown_words: bool = False

    def __post_init__(self) -> None:
        """Check every value."""
        for name in (
            'least_coverage',
            'least_pick_score',
            'least_place_score',
            'most_pick_entropy',
            'most_place_entropy',
            'least_word_match',
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} = {getattr(self, name)} is not in 0 to 1')
        if not (math.isfinite(self.score_radius_m) and self.score_radius_m > 0):
            raise ValueError(f'score_radius_m = {self.score_radius_m} is not a positive length')


@dataclass(frozen=True, eq=False)
class Action:
    """One way to do it.

    Attributes:
        pick: (4, 4) table_from_tool.
        place: (4, 4) table_from_tool.
        pick_score: Probability around the pick, 0 to 1.
        place_score: Probability around the place over all turns, given this pick.
        candidate: The same in pixels; the place's angle is relative to the pick's.
    """

    pick: Matrix
    place: Matrix
    pick_score: float
    place_score: float
    candidate: Candidate


@dataclass(frozen=True, eq=False)
class Answer:
    """What came of a question, as far as it came.

    Attributes:
        refusal: Why there is no action; '' where there is.
        kind: Of refusal, in a word or two.
        actions: The best first; none where refused.
        notes: What its reader should know.
        heightmap: Of the table; None where there is none.
        plan: Of the network; None where it was not asked.
        agreements: Of the views' heights.
        pick_entropy: Of the pick map, 0 to 1; NaN where there is none.
        place_entropy: Of the place map.
        times_ms: What each part took.
    """

    refusal: str = ''
    kind: str = ''
    actions: tuple[Action, ...] = ()
    notes: tuple[str, ...] = ()
    heightmap: Heightmap | None = None
    plan: Plan | None = None
    agreements: tuple[Agreement, ...] = ()
    pick_entropy: float = math.nan
    place_entropy: float = math.nan
    times_ms: dict[str, float] = field(default_factory=dict)


class _RefusedError(Exception):
    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass
class _Draft:
    """An answer under way; it holds what there is when it is refused."""

    names: Sequence[str]
    notes: list[str] = field(default_factory=list)
    heightmap: Heightmap | None = None
    agreements: tuple[Agreement, ...] = ()
    plan: Plan | None = None
    pick_entropy: float = math.nan
    place_entropy: float = math.nan
    times_ms: dict[str, float] = field(default_factory=dict)

    def timed(self, what: str, started_s: float) -> None:
        self.times_ms[what] = (time.perf_counter() - started_s) * 1e3

    def answer(
        self, actions: Sequence[Action] = (), refused: _RefusedError | None = None
    ) -> Answer:
        return Answer(
            str(refused) if refused else '',
            refused.kind if refused else '',
            tuple(actions),
            tuple(self.notes),
            self.heightmap,
            self.plan,
            self.agreements,
            self.pick_entropy,
            self.place_entropy,
            self.times_ms,
        )


class Planner:
    """Answers instructions; one thread at a time."""

    def __init__(self, policy: CliportPolicy, config: PlannerConfig) -> None:
        self.policy, self.config = policy, config

    def warm_up(self) -> None:
        """Plan on an empty table: the first plan of a model is slow.

        Raises:
            ValueError: The network cannot work on a map of this size.
        """
        shape = self.config.workspace.shape
        empty = Heightmap(
            np.zeros((*shape, 3), np.uint8),
            np.zeros(shape, np.float32),
            np.ones(shape, np.bool_),
            self.config.workspace,
        )
        self.policy.plan(empty, 'nothing')

    def check_instruction(self, instruction: str) -> tuple[str, tuple[str, ...]]:
        """Whether an instruction says anything to the model.

        Returns:
            Why not, or '', and notes on its words.
        """
        model = self.policy.model
        try:
            words = sort_words(instruction, model.config.words, model.clip)
        except ValueError as error:
            return str(error), ()
        unknown = ', '.join(map(repr, words.unknown))
        if not (words.learned or words.understood):
            return f'I know none of the words of {instruction!r}: {unknown}', ()
        if words.unknown and self.config.refuse_unknown_words:
            return f'I do not know {unknown}, and unknown words are to be refused', ()
        notes = []
        if words.unknown:
            notes.append(f'I do not know {unknown}, and read on without')
        if words.understood and model.config.words:
            new = ', '.join(map(repr, words.understood))
            notes.append(f'no demonstration had {new}, which CLIP knows')
        return '', tuple(notes)

    def look(self, views: Sequence[View], names: Sequence[str] = ()) -> Answer:
        """The heightmap and how views agree, without a plan; refused where it shows too little.

        Args:
            views: One a camera.
            names: Of the cameras, for notes.
        """
        draft = _Draft(names)
        try:
            self._fuse(draft, views)
        except _RefusedError as refused:
            return draft.answer(refused=refused)
        return draft.answer()

    def plan(
        self,
        views: Sequence[View],
        instruction: str,
        count: int,
        *,
        names: Sequence[str] = (),
        progress: Callable[[str], None] = lambda stage: None,
    ) -> Answer:
        """What to pick up and where to put it.

        Args:
            views: One a camera.
            instruction: A sentence.
            count: Most actions.
            names: Of the cameras, for notes.
            progress: Called with each of `STAGES` as it begins, with `place` for each candidate;
                what it raises ends the planning.
        """
        draft = _Draft(names)
        try:
            refusal, notes = self.check_instruction(instruction)
            draft.notes.extend(notes)
            if refusal:
                raise _RefusedError('instruction', refusal)
            progress('heightmap')
            heightmap = self._fuse(draft, views)
            progress('pick')
            plan = self._ask(draft, heightmap, instruction, count, lambda: progress('place'))
            return draft.answer(self._actions(draft, heightmap, plan))
        except _RefusedError as refused:
            return draft.answer(refused=refused)

    def _fuse(self, draft: _Draft, views: Sequence[View]) -> Heightmap:
        started_s = time.perf_counter()
        workspace = self.config.workspace
        try:
            draft.heightmap = heightmap = fuse(views, workspace)
        except EmptyHeightmapError as error:
            raise _RefusedError('no depth', str(error)) from error
        draft.agreements = tuple(agreements(views, workspace))
        draft.notes.extend(self._disagreements(draft))
        draft.timed('heightmap', started_s)
        if heightmap.coverage < self.config.least_coverage:
            raise _RefusedError(
                'low coverage',
                f'the cameras see {heightmap.coverage:.0%} of the workspace, and '
                f'{self.config.least_coverage:.0%} is needed: look at their poses and at the '
                'bounds, add a camera, or lower least_coverage',
            )
        return heightmap

    def _disagreements(self, draft: _Draft) -> list[str]:
        names = list(draft.names)
        return [
            f'heights of {" and ".join(names[i] for i in (a.first, a.second))} differ by '
            f'{a.median_m * 1e3:.0f} mm: look at their calibration'
            for a in draft.agreements
            if names and a.median_m > _LARGEST_DISAGREEMENT_M
        ]

    def _ask(
        self,
        draft: _Draft,
        heightmap: Heightmap,
        instruction: str,
        count: int,
        before_place: Callable[[], None],
    ) -> Plan:
        started_s = time.perf_counter()
        plan = self.policy.plan(heightmap, instruction, count, before_place=before_place)
        draft.plan = plan
        draft.pick_entropy = normalised_entropy(plan.pick_map)
        draft.place_entropy = normalised_entropy(plan.place_map)
        draft.timed('network', started_s)
        return plan

    def _actions(self, draft: _Draft, heightmap: Heightmap, plan: Plan) -> list[Action]:
        started_s = time.perf_counter()
        radius_px = max(1, round(self.config.score_radius_m / heightmap.workspace.pixel_m))
        scores = [
            (
                window_mass(plan.pick_map, each.pick.row, each.pick.col, radius_px),
                window_mass(place_map, each.place.row, each.place.col, radius_px),
            )
            for each, place_map in zip(plan.candidates, plan.place_maps, strict=True)
        ]
        self._check_confidence(scores[0], (draft.pick_entropy, draft.place_entropy))
        self._check_words(plan.match)
        actions = []
        for candidate, its_scores in zip(plan.candidates, scores, strict=True):
            try:
                actions.append(self._action(heightmap, candidate, *its_scores))
            except UnseenError as error:
                if candidate is plan.best:
                    raise _RefusedError('hole', str(error)) from error
                # An alternative that cannot be carried out is none.
        draft.timed('heights', started_s)
        return actions

    def _check_words(self, match: WordMatch) -> None:
        least = self.config.least_word_match
        if least and match.share < least:  # never of NaN
            raise _RefusedError(
                'words',
                'I see no such thing to pick: what I would take looks like none of '
                f'{", ".join(map(repr, match.words))}, it matches {match.share:.2f}, less than '
                f'least_word_match = {least}',
            )

    def _check_confidence(
        self, scores: tuple[float, float], entropies: tuple[float, float]
    ) -> None:
        config = self.config
        bounds = (
            (config.least_pick_score, config.most_pick_entropy),
            (config.least_place_score, config.most_place_entropy),
        )
        said = zip(('pick', 'place'), scores, entropies, bounds, strict=True)
        for name, score, entropy, (least, most) in said:
            what = 'thing to pick' if name == 'pick' else 'place to put it'
            if score < least:
                raise _RefusedError(
                    f'{name} score',
                    f'I see no such {what}: the best has a score of {score:.3f}, less than '
                    f'least_{name}_score = {least}',
                )
            if entropy > most:
                raise _RefusedError(
                    f'{name} entropy',
                    f'I see no such {what}: it could be nearly anywhere, the entropy is '
                    f'{entropy:.3f}, more than most_{name}_entropy = {most}',
                )

    def _action(
        self, heightmap: Heightmap, candidate: Candidate, pick_score: float, place_score: float
    ) -> Action:
        """With heights. Raises UnseenError."""
        pick, place, placing = candidate.pick, candidate.place, self.config.placing
        held = held_object(heightmap, pick.row, pick.col, placing)
        place_z_m = place_height(heightmap, place.row, place.col, place.angle_rad, held, placing)
        poses = poses_of_labels(
            heightmap.workspace,
            PixelPose(pick.row, pick.col, pick.angle_rad, held.pick_z_m),
            PixelPose(place.row, place.col, place.angle_rad, place_z_m),
            tool_down=self.config.tool_down,
        )
        return Action(*poses, pick_score, place_score, candidate)
