import threading

import pytest

from bag_tools.whole_file import whole_file, write_whole


def test_a_file_appears_once_all_is_written(tmp_path):
    path = tmp_path / 'page.txt'
    with whole_file(path) as stream:
        stream.write(b'new')
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b'new'
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_meanwhile_leaves_the_older_file(tmp_path):
    path = tmp_path / 'page.txt'
    write_whole(path, b'old')

    def break_off():
        with whole_file(path) as stream:
            stream.write(b'half')
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match='nowhere'):
        write_whole(tmp_path / 'nowhere' / 'page.txt', b'new')


def test_threads_that_write_one_file_at_once_leave_one_whole(tmp_path):
    path = tmp_path / 'page.txt'
    both = threading.Barrier(2)

    def write(letter):
        with whole_file(path) as stream:
            stream.write(letter * 10)
            both.wait()
            stream.write(letter * 10)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b'a', b'b')]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in (b'a' * 20, b'b' * 20)
    assert list(tmp_path.iterdir()) == [path]
