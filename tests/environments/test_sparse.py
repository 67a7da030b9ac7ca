"""Boards beside models of their rules, written anew: where a move leads, what
random play brings, and what is the best that can be had."""

import collections

import numpy as np
import pytest

from acme_hieros.environments import make_environment

SIDE = 8
MOVES = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]

# Corners of pads in the order in which they are to be touched.
CORNERS = [(0, 0), (6, 6), (6, 0), (0, 6), (3, 0), (3, 6)]
PAD = {
  (row + i, column + j): number
  for number, (row, column) in enumerate(CORNERS)
  for i in (0, 1)
  for j in (0, 1)
}
FREE = [
  (row, column)
  for row in range(SIDE)
  for column in range(SIDE)
  if (row, column) not in PAD
]


def walk(cell, action, walls=(), side=SIDE):
  row, column = cell[0] + MOVES[action][0], cell[1] + MOVES[action][1]
  if (row, column) in walls or not (0 <= row < side and 0 <= column < side):
    return cell
  return row, column


def touch(queue, cell, order):
  """The pads that were touched last, as Pin Pad has them in a queue."""
  pad = PAD.get(cell)
  if pad is None or queue[-1:] == (pad,):
    return queue
  return (*queue, pad)[-order:]


def in_turn(queue):
  """The end of a queue that begins with the first pad and goes on in turn."""
  for start in range(len(queue)):
    if queue[start:] == tuple(range(len(queue) - start)):
      return queue[start:]
  return ()


class PadsModel:
  """Every state of a board, and where each action leads from it."""

  def __init__(self, order):
    self.wanted = tuple(range(order))
    self.start = [(cell, ()) for cell in FREE]
    self.after = {}
    waiting = list(self.start)
    while waiting:
      state = waiting.pop()
      if state in self.after:
        continue
      cell, queue = state
      self.after[state] = []
      for action in range(5):
        there = walk(cell, action)
        # Of the rest of the queue nothing will ever come.
        touched = in_turn(touch(queue, there, order))
        if touched == self.wanted:
          self.after[state].append((10.0, None))  # Anywhere free.
        else:
          following = (there, touched)
          self.after[state].append((0.0, following))
          waiting.append(following)
    self.index = {state: i for i, state in enumerate(self.after)}

  def values(self, length, best):
    """Expected return of an episode: at best, or of random play."""
    reward = np.array([[r for r, _ in row] for row in self.after.values()])
    new = len(self.index)  # Stands for a new start.
    target = np.array(
      [
        [new if state is None else self.index[state] for _, state in row]
        for row in self.after.values()
      ]
    )
    start = [self.index[state] for state in self.start]
    value = np.zeros(new + 1)
    for _ in range(length):
      q = reward + value[target]
      value[:-1] = q.max(1) if best else q.mean(1)
      value[-1] = value[start].mean()
    return value[-1]


def corridor(rows, side=SIDE):
  """The cells of a corridor, in turn."""
  cells = []
  for i in range(rows):
    stretch = [(2 * i, column) for column in range(side)]
    cells += stretch[::-1] if i % 2 else stretch
    cells.append((2 * i + 1, cells[-1][1]))
  return cells[:-1]


def corridor_value(rows, length, side=SIDE):
  """What random play brings: 10 times the chance to come to the end."""
  cells = corridor(rows, side)
  chance = np.eye(1, len(cells))[0]
  for _ in range(length):
    moved = np.zeros_like(chance)
    moved[-1] = chance[-1]
    for i, cell in enumerate(cells[:-1]):
      for action in range(5):
        walls = {
          (row, column) for row in range(side) for column in range(side)
        } - set(cells)
        there = walk(cell, action, walls, side)
        moved[cells.index(there)] += chance[i] / 5
    chance = moved
  return 10 * chance[-1]


def key_value(length):
  """The same, over all boards: a walk to the key, and one from it to the goal.

  How long both last is independent, given where the key is.
  """
  left = [(r, c) for r in range(SIDE) for c in range(4)]
  everywhere = {(r, c) for r in range(SIDE) for c in range(SIDE)}

  def arrivals(starts, cells, end):
    """Chance to arrive for the first time after n steps, by start, [n, S]."""
    index = {cell: i for i, cell in enumerate(cells)}
    walls = everywhere - set(cells)
    step = np.zeros((len(cells), len(cells)))
    for cell in cells:
      for action in range(5):
        step[index[cell], index[walk(cell, action, walls)]] += 0.2
    inner = step.copy()
    inner[:, index[end]] = 0.0
    first = [np.zeros(len(cells)), step[:, index[end]]]
    first[0][index[end]] = 1.0
    for _ in range(length - 1):
      first.append(inner @ first[-1])
    first = np.array(first)
    first[1:, index[end]] = 0.0
    return first[:, [index[cell] for cell in starts]]

  to_key = {
    key: arrivals([c for c in left if c != key], left, key).mean(1)
    for key in left
  }
  chances = []
  for door in [(r, 4) for r in range(SIDE)]:
    for goal in [(r, c) for r in range(SIDE) for c in (5, 6, 7)]:
      cells = [*left, door, *((r, c) for r in range(SIDE) for c in (5, 6, 7))]
      onwards = arrivals(left, cells, goal)
      for i, key in enumerate(left):
        both = np.convolve(to_key[key], onwards[:, i])[: length + 1]
        chances.append(both.sum())
  return 10 * np.mean(chances)


def play(environment, rng, choose=None):
  """An episode: its steps, and the actions that led to them.

  Actions are random but for nine of ten where there is `choose`, which makes
  them of a step.
  """
  steps, actions = [environment.reset()], [None]
  while not steps[-1].last():
    chosen = choose and rng.random() < 0.9
    actions.append(choose(steps[-1]) if chosen else int(rng.integers(5)))
    steps.append(environment.step(np.int32(actions[-1])))
  return steps, actions


def way_to_pad(cell, pad):
  """The first action of a shortest way that touches no pad before."""
  ways = collections.deque([(cell, None)])
  seen = {cell}
  while ways:
    here, first = ways.popleft()
    for action in range(1, 5):
      there = walk(here, action)
      begun = action if first is None else first
      if PAD.get(there) == pad:
        return begun
      if there not in seen and PAD.get(there) in (None, pad - 1):
        seen.add(there)
        ways.append((there, begun))
  return 0


def cells(plane):
  return list(map(tuple, np.argwhere(plane)))


def planes(step, side=SIDE):
  return step.observation.reshape((-1, side, side))


@pytest.mark.parametrize('order', [2, 3, 6])
def test_pads_go_by_the_queue_of_pin_pad(order):
  environment = make_environment(
    'sparse/pads', order=order, observation='vector', length=1500
  )

  def choose(step):
    touched, (player,) = map(cells, planes(step))
    return way_to_pad(player, len(touched) // 4)

  rng = np.random.default_rng(order)
  steps, actions = play(environment, rng, choose)
  starts, rewards = set(), 0
  wanted, queue, (cell,) = tuple(range(order)), (), cells(planes(steps[0])[1])
  for step, action in zip(steps[1:], actions[1:]):
    touched, player = map(cells, planes(step))
    cell = walk(cell, action)
    queue = touch(queue, cell, order)
    won = queue == wanted
    assert step.reward == (10 if won else 0)
    rewards += won
    if won:
      (cell,), queue = player, ()
      starts.add(cell)
      assert cell in FREE
    assert player == [cell]
    assert touched == sorted(c for c, p in PAD.items() if p in in_turn(queue))
  assert (step.discount, len(steps)) == (1, 1501)
  assert rewards > 2 and len(starts) > 2


@pytest.mark.parametrize(
  ('order', 'random', 'best'),
  # As the docstring has them.
  [
    (2, 0.21, 126.2),
    (3, 0.029, 93.7),
    (4, 4.4e-4, 60.3),
    (5, 2.2e-5, 50.0),
    (6, 1.1e-6, 40.2),
  ],
)
def test_what_pads_bring(order, random, best):
  model = PadsModel(order)
  assert model.values(200, best=False) == pytest.approx(random, rel=0.03)
  assert model.values(200, best=True) == pytest.approx(best, abs=0.05)


def test_a_key_opens_the_door_and_the_goal_ends_the_episode():
  environment = make_environment('sparse/key', observation='vector')
  rng = np.random.default_rng(0)
  keys, doors, goals, found = set(), set(), set(), 0
  for _ in range(60):
    steps, actions = play(environment, rng)
    (key,), (door,), opened, (goal,), (cell,) = map(cells, planes(steps[0]))
    assert opened == [] and key != cell
    assert key[1] < 4 and cell[1] < 4 and door[1] == 4 and goal[1] > 4
    keys.add(key), doors.add(door), goals.add(goal)
    wall, taken = {(row, 4) for row in range(SIDE)}, False
    for step, action in zip(steps[1:], actions[1:]):
      cell = walk(cell, action, wall)
      taken |= cell == key
      wall -= {door} if taken else set()
      assert list(map(cells, planes(step))) == [
        [] if taken else [key],
        [] if taken else [door],
        [door] if taken else [],
        [goal],
        [cell],
      ]
      assert step.reward == 10 * (cell == goal)
    assert step.discount == (cell != goal)
    assert len(steps) == 101 or cell == goal
    found += cell == goal
  assert len(keys) > 20 and len(doors) > 5 and len(goals) > 15
  assert found


def test_what_a_key_brings():
  assert key_value(100) == pytest.approx(10 * 0.028, rel=0.03)


@pytest.mark.parametrize(
  'rows,side', [(1, 8), (2, 8), (3, 8), (4, 8), (8, 16), (2, 5)]
)
def test_a_corridor_leads_to_the_goal(rows, side):
  environment = make_environment(
    'sparse/corridor', rows=rows, side=side, observation='vector'
  )
  way = corridor(rows, side)
  assert len(way) == (side + 1) * rows - 1
  step = environment.reset()
  for here, there in zip(way, way[1:]):
    assert list(map(cells, planes(step, side))) == [[way[-1]], [here]]
    assert step.reward in (None, 0)
    action = MOVES.index((there[0] - here[0], there[1] - here[1]))
    step = environment.step(np.int32(action))
  assert (step.reward, step.discount, step.last()) == (10, 0, True)


@pytest.mark.parametrize('rows,side', [(4, 8), (6, 14)])
def test_nobody_walks_through_the_walls_of_a_corridor(rows, side):
  environment = make_environment(
    'sparse/corridor', rows=rows, side=side, observation='vector'
  )
  way = corridor(rows, side)
  walls = {(r, c) for r in range(side) for c in range(side)} - set(way)
  steps, actions = play(environment, np.random.default_rng(0))
  cell = way[0]
  for step, action in zip(steps[1:], actions[1:]):
    cell = walk(cell, action, walls, side)
    assert cells(planes(step, side)[1]) == [cell]


def test_what_corridors_bring():
  assert corridor_value(4, 200) == pytest.approx(10 * 0.00023, rel=0.03)
  assert corridor_value(3, 200) == pytest.approx(10 * 0.0089, rel=0.03)


def test_a_signal_says_which_pad_will_pay():
  environment = make_environment(
    'sparse/signal', delay=12, shown=3, length=40, observation='vector'
  )
  corners = {
    pad: [cell for cell, p in PAD.items() if p == pad] for pad in range(4)
  }
  pads = sorted(sum(corners.values(), []))
  middle = {(3, 3), (3, 4), (4, 3), (4, 4)}
  rng = np.random.default_rng(0)
  lit_ever, starts, earned, missed, late = set(), set(), 0, 0, 0
  for _ in range(200):
    steps, actions = play(environment, rng)
    lit = cells(planes(steps[0])[0])
    (pad,) = [pad for pad, where in corners.items() if lit == where]
    (cell,) = cells(planes(steps[0])[2])
    assert cell in middle
    lit_ever.add(pad)
    for time, (step, action) in enumerate(zip(steps, actions)):
      shown, opened, player = map(cells, planes(step))
      assert shown == (lit if time < 3 else [])
      assert opened == (pads if time >= 12 else [])
      if time == 12:
        (cell,) = player
        assert cell in middle
        starts.add(cell)
      elif time:
        cell = walk(cell, action)
      assert player == [cell]
      touched = time > 12 and PAD.get(cell) in corners
      if time:
        assert step.reward == (10 if touched and cell in lit else 0)
        assert step.last() == (touched or time == 40)
    assert step.discount == (not touched)
    earned += step.reward == 10
    missed += touched and step.reward == 0
    late += not touched
  assert len(lit_ever) == 4 and starts == middle
  assert earned and missed and late


def test_what_a_signal_brings():
  """A walk of 24 steps from the middle to any corner; one in four is right."""
  corners = {cell for cell, pad in PAD.items() if pad < 4}
  chance = {(row, column): 0.25 for row in (3, 4) for column in (3, 4)}
  arrived = 0.0
  for _ in range(56 - 32):
    moved = collections.Counter()
    for cell, probability in chance.items():
      for action in range(5):
        moved[walk(cell, action)] += probability / 5
    arrived += sum(moved.pop(cell, 0.0) for cell in corners)
    chance = moved
  assert arrived == pytest.approx(0.54, abs=0.005)
  assert 10 * arrived / 4 == pytest.approx(1.36, abs=0.005)


def test_a_signal_that_decides_at_the_end():
  environment = make_environment(
    'sparse/signal',
    delay=12,
    shown=3,
    length=20,
    observation='vector',
    decides='end',
  )
  rng = np.random.default_rng(0)
  first, again, earned, missed = set(), set(), 0, 0
  for _ in range(400):
    steps, actions = play(environment, rng)
    lit = cells(planes(steps[0])[0])
    assert len(steps) == 21
    for time, (step, action) in enumerate(zip(steps, actions)):
      shown, opened, (where,) = map(cells, planes(step))
      assert shown == (lit if time < 3 else []) and opened == []
      if time in (0, 12):
        (again if time else first).add(where)
        cell = where
      else:
        cell = walk(cell, action)
      assert where == cell
      last = time == 20
      if time:
        assert step.reward == (10 if last and cell in lit else 0)
        assert step.last() == last
    assert step.discount == 0
    earned += step.reward == 10
    missed += cell in PAD and cell not in lit
  board = {(row, column) for row in range(SIDE) for column in range(SIDE)}
  assert first == board and again == board
  assert earned and missed


def test_what_a_signal_brings_that_decides_at_the_end():
  """Walks at random stay spread evenly: each move can be undone by another."""
  chance = {(row, column): 1 / 64 for row in range(8) for column in range(8)}
  for _ in range(16):
    moved = collections.Counter()
    for cell, probability in chance.items():
      for action in range(5):
        moved[walk(cell, action)] += probability / 5
    chance = moved
  on_pads = sum(chance[cell] for cell, pad in PAD.items() if pad < 4)
  assert 10 * on_pads / 4 == pytest.approx(0.625)


@pytest.mark.parametrize('task', ['pads', 'key', 'corridor', 'signal'])
def test_images_tell_all_that_vectors_tell(task):
  """Equal images have equal vectors, and others have others."""
  images, vectors = (
    play(
      make_environment(f'sparse/{task}', seed=1, observation=observation),
      np.random.default_rng(0),
    )[0]
    for observation in ('image', 'vector')
  )
  seen = {
    (image.observation.tobytes(), vector.observation.tobytes())
    for image, vector in zip(images, vectors, strict=True)
  }
  assert len(seen) > 5
  assert len({image for image, _ in seen}) == len(seen)
  assert len({vector for _, vector in seen}) == len(seen)
  image = images[0].observation
  np.testing.assert_array_equal(
    image, image[::2, ::2].repeat(2, 0).repeat(2, 1)
  )


@pytest.mark.parametrize(
  ('task', 'options', 'sentence'),
  [
    ('pads', {'order': 1}, 'order'),
    ('pads', {'order': 7}, 'there are 6 pads'),
    ('corridor', {'rows': 5}, 'has room for 4'),
    ('corridor', {'side': 1}, 'side'),
    ('corridor', {'side': 1.5}, 'side'),
    ('key', {'length': 0}, 'length'),
    ('key', {'observation': 'text'}, 'observation'),
    ('signal', {'shown': 33}, 'have to ascend'),
    ('signal', {'length': 32}, 'have to ascend'),
    ('signal', {'decides': 'never'}, 'decides'),
    ('maze', {}, "'sparse/maze'"),
  ],
)
def test_what_cannot_be(task, options, sentence):
  with pytest.raises(ValueError, match=sentence):
    make_environment(f'sparse/{task}', **options)
