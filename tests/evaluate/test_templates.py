"""A template of a stranger reads what it is given, ends, and does nothing else."""

import contextlib
import time

import pytest
from jinja2 import Environment
from jinja2.exceptions import TemplateError

from scriven.evaluate import templates

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__']['__mro__'] }}",
    "{{ text.__init__.__globals__ }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').system('true') }}",
    "{{ cycler.__init__.__globals__.os.popen('true').read() }}",
    "{{ lipsum.__globals__['os'].popen('true').read() }}",
    "{{ (text|attr('__class__')) and text|attr('__class__')|attr('__mro__') | list }}",
    "{{ '{0.__class__.__mro__}'.format(text) }}",
    "{% set x = text.__class__ %}{{ x.__base__ }}",
    "{{ ''.join(text.__dir__()) }}",
]
ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% macro f() %}{% for a in range(99999) %}{{ f() }}{% endfor %}{% endmacro %}{{ f() }}",
]
LARGE = [
    "{{ 'a' * 10000000000 }}",
    "{{ 10000000000 * 'a' }}",
    "{{ [0] * 10000000000 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ range(10000000) | list | length }}",
    "{% set x = 10 ** 900 %}{{ x * x * x * x * x * x * x * x }}",
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "SECONDS", 0.3)


def render(text: str) -> str:
    return str(templates.LimitedEnvironment().from_string(text).render(text="a text", number=3))


def test_usual_templates_are_rendered() -> None:
    assert render("{{text}}\n{% for n in range(number) %}{{ n * 2 }} {% endfor %}\n") == (
        "a text\n0 2 4 \n"
    )
    assert render("{{ '-' * 10 }}{{ 2 ** 10 }}{{ 1.5 * 2 }}") == "-" * 10 + "10243.0"
    with pytest.raises(TemplateError, match="undefined"):
        render("{{ missing }}")


@pytest.mark.parametrize("text", ESCAPES)
def test_none_reaches_python(text: str) -> None:
    with pytest.raises(TemplateError):
        render(text)
    assert Environment().from_string("{{ ''.__class__ }}").render() != ""


@pytest.mark.parametrize("text", [*ENDLESS, *LARGE])
def test_none_goes_on_for_ever(text: str) -> None:
    began = time.monotonic()
    with pytest.raises((TemplateError, OverflowError, RecursionError)):
        render(text)
    assert time.monotonic() - began < 10


def count_for_ever() -> None:
    with templates.time_limit(0.01):
        while True:
            pass


def test_a_limit_that_was_kept_interrupts_nothing_later() -> None:
    for _ in range(50):
        # on a loaded machine even this empty block may take longer than its limit
        with contextlib.suppress(templates.TemplateTimeoutError), templates.time_limit(0.002):
            pass
    time.sleep(0.01)
    with pytest.raises(templates.TemplateTimeoutError):
        count_for_ever()
