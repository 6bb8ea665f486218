from sisock.store.extensions import spread


def test_a_server_without_extensions_is_left_as_it_is(store):
    assert spread(store.database) == []
