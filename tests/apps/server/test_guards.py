"""Who may ask: hosts, origins, keys and sizes, ahead of any route."""

import asyncio
import base64
import json

import pytest

from kerasdiffusion.apps.server.guards import Guards

OWN = {"host": "127.0.0.1:7860"}


def asked(
    path="/jobs", headers=OWN, method="GET", chunks=(b"",), heard=None, **settings
):
    """The status and the JSON that one request gets; the app says 200.

    What is taken of its body is put in `heard`.
    """
    sent, left = [], list(chunks)

    async def app(scope, receive, send):
        while left:
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive():
        body = left.pop(0)
        if heard is not None:
            heard.append(body)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    named = [(k.lower().encode(), x.encode()) for k, x in headers.items()]
    scope = {"type": "http", "path": path, "method": method, "headers": named}
    asyncio.run(Guards(app, **settings)(scope, receive, send))
    told = {k.decode(): x.decode() for k, x in sent[0]["headers"]}
    return sent[0]["status"], told, json.loads(sent[1]["body"] or "{}")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "localhost", "[::1]:7860", "192.168.1.5", "LOCALHOST:1"]
)
def test_it_is_asked_by_addresses_and_by_its_own_name(host):
    assert asked(headers={"host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""]
)
def test_a_name_that_is_not_its_own_is_refused(host):
    """So a page cannot have its own name lead here (DNS rebinding)."""
    status, _, body = asked(headers={"host": host})
    assert status == 403 and "--allow-host" in body["error"]["message"]


def test_another_name_may_be_allowed():
    assert asked(headers={"host": "paint.example"}, hosts=["Paint.example"])[0] == 200


@pytest.mark.parametrize(
    "host, status",
    [("a1.paint.example", 200), ("paint.example", 403), ("a.b.paint.example", 403)],
)
def test_all_names_of_a_domain_may_be_allowed(host, status):
    assert asked(headers={"host": host}, hosts=[".paint.example"])[0] == status


@pytest.mark.parametrize(
    "given, asks, status",
    [
        ("x:key", True, 200),
        ("x:key", False, 401),
        ("key:x", True, 401),
        ("", True, 401),
    ],
)
def test_a_key_is_a_password_where_people_are_asked(given, asks, status):
    code = base64.b64encode(given.encode()).decode()
    headers = {**OWN, "authorization": f"Basic {code}"}
    found, told, _ = asked(headers=headers, keys=["key"], asks_people=asks)
    assert found == status
    if status == 401:
        assert told["www-authenticate"].startswith("Basic" if asks else "Bearer")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1"])
def test_pages_of_other_sites_may_not_ask(origin):
    status, told, body = asked(headers={**OWN, "origin": origin})
    assert status == 403 and "--allow-origin" in body["error"]["message"]
    assert "access-control-allow-origin" not in told


def test_its_own_pages_may_ask_and_others_if_they_are_allowed():
    assert asked(headers={**OWN, "origin": "http://127.0.0.1:7860"})[0] == 200
    other = {**OWN, "origin": "https://paint.example"}
    status, told, _ = asked(headers=other, origins=["https://paint.example/"])
    assert status == 200
    assert told["access-control-allow-origin"] == "https://paint.example"
    status, told, _ = asked(
        headers=other, method="OPTIONS", origins=["https://paint.example"], keys=["k"]
    )
    assert status == 204 and "POST" in told["access-control-allow-methods"]


def test_a_form_of_another_site_may_not_ask():
    assert asked(headers={**OWN, "sec-fetch-site": "cross-site"})[0] == 403


def basic(text):
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    "given", ["Bearer first", "bearer second", basic("me:secret"), basic("me:ü")]
)
def test_each_key_and_each_user_will_do(given):
    keys, users = ["first", "second"], ["me:secret", "me:ü"]
    assert (
        asked(headers={**OWN, "authorization": given}, keys=keys, users=users)[0] == 200
    )


@pytest.mark.parametrize(
    "given",
    ["", "first", "Bearer", "Bearer firs", basic("first"), "Basic !", "Bearer ü"],
)
def test_anything_else_will_not(given):
    headers = {**OWN, "authorization": given}
    status, told, body = asked(headers=headers, keys=["first"], users=["me:secret"])
    assert status == 401 and told["www-authenticate"].startswith("Basic")
    assert given == "" or given not in json.dumps(body)


def test_whether_it_lives_anyone_may_ask():
    assert asked("/health", keys=["k"])[0] == 200


@pytest.mark.parametrize(
    "path, inside",
    [
        ("/v1/images/generations", lambda body: body["error"]["type"]),
        ("/sdapi/v1/txt2img", lambda body: body["detail"]),
        ("/jobs", lambda body: body["error"]["message"]),
    ],
)
def test_a_refusal_has_the_shape_of_the_api(path, inside):
    assert inside(asked(path, keys=["k"])[2])


def test_a_body_is_refused_by_what_it_says_and_by_what_it_has():
    assert asked(headers={**OWN, "content-length": "11"}, most=10)[0] == 413
    assert asked(headers={**OWN, "content-length": "-1"}, most=10)[0] == 400
    assert asked(chunks=[b"12345"] * 2, most=10)[0] == 200
    with pytest.raises(Exception, match="at most 10 bytes"):
        asked(chunks=[b"12345"] * 3, most=10)


def test_who_sends_too_much_is_heard_out_and_then_told():
    headers = {**OWN, "content-length": "15"}
    for first, told in (({}, [b"12345"] * 3), ({"expect": "100-continue"}, [])):
        heard = []
        found = asked(
            headers={**headers, **first}, chunks=[b"12345"] * 3, most=10, heard=heard
        )
        assert found[0] == 413 and heard == told


def test_bodies_of_many_are_bounded_together_and_let_go():
    async def app(scope, receive, send):
        for _ in range(9):
            await receive()

    async def receive():
        return {"type": "http.request", "body": b"1234", "more_body": True}

    guards = Guards(app, most=40)
    guards.held = 300  # by requests that are answered later
    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "path": "/jobs", "method": "POST", "headers": headers}
    with pytest.raises(Exception, match="Others are sending") as error:
        asyncio.run(guards(scope, receive, None))
    assert error.value.status == 503 and guards.held == 300
    guards.held = 0
    asyncio.run(guards(scope, receive, None))
    assert guards.held == 0
