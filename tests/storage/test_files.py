"""Files that are complete or absent, whoever writes them."""

import multiprocessing
import os

import pytest

from acme_hieros.storage import files


def write(path, text, ready, go):
  with files.replacing(path, 'w') as file:
    file.write(text[0])
    file.flush()
    ready.release()
    go.wait(60)
    file.write(text[1:])


def test_two_processes_write_one_file(tmp_path):
  path = str(tmp_path / 'file')
  context = multiprocessing.get_context('fork')
  ready, gates = context.Semaphore(0), [context.Event(), context.Event()]
  texts = ['a' * 10_000, 'b' * 10_000]
  processes = [
    context.Process(target=write, args=(path, text, ready, go))
    for text, go in zip(texts, gates)
  ]
  for process in processes:  # Both are in the middle.
    process.start()
    assert ready.acquire(timeout=60)
  for process, go, text in zip(processes, gates, texts):
    go.set()
    process.join(60)
    assert process.exitcode == 0
    assert (tmp_path / 'file').read_text() == text
  assert os.listdir(tmp_path) == ['file']


def test_what_fails_leaves_the_older_file(tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  with pytest.raises(ValueError), files.replacing(str(path), 'w') as file:
    file.write('new')
    raise ValueError
  assert path.read_text() == 'old'
  assert os.listdir(tmp_path) == ['file']
