"""Words that `build_words.py` decides by hand, because WordNet cannot: it has no function words, and it lists letters.

Everything here was looked at by eye in the list that the script makes.
"""
# ruff: noqa: SIM905

from __future__ import annotations

# WordNet holds nouns, verbs, adjectives and adverbs only. These are the function words of English beside them; among
# verbs they are the auxiliaries and modals, which are left out of the general verbs ("have" is an instruction verb).
FUNCTION = frozenset(
    """
    the this that these those such what which who whom whose whoever whatever whichever
    i me my mine myself you your yours yourself yourselves he him his himself she her hers herself
    it its itself we us our ours ourselves they them their theirs themselves one ones oneself
    each every either neither both all any some none few many much more most less least several enough
    other others another
    someone somebody something anyone anybody anything everyone everybody everything no nobody nothing
    and or but nor so yet if because although though unless until while whereas whether than that as since once lest
    when whenever where wherever whereby wherein how however why
    of to in on at by for with from into onto upon about above across after against along alongside amid amidst among
    amongst around before behind below beneath beside besides between beyond despite down during except inside like near
    off out outside over past per plus throughout through till toward towards under underneath unlike up versus via
    within without without regarding concerning
    be am is are was were been being do does did doing done has had having can cannot could will would shall should
    may might must ought
    not never also too very just only even still already else ah oh okay hello hey
    """.split()
)

# Two letters are words here, and abbreviations in nearly all other cases ("dp", "jk", "ca" of "ca n't").
TWO_LETTERS = frozenset(
    """
    of to in on is he as it by at an be or we up if no do us so my go me am oh ok hi ah ha ox pi ad ex id
    tv uk eu un pm mr dr km kg cm mm pc cd dj ai
    """.split()
)

# Abbreviations and new words that a reader knows as words; other abbreviations (WordNet writes them in capitals) go.
KNOWN = frozenset(
    """
    usa fbi cia hiv ceo nasa ads dvd dna rna gdp nato suv gps ngo lcd vip html cpu ufo phd unicef unesco ussr
    app apps url api javascript smartphone wikipedia facebook youtube ms mrs jew zen african-american non-profit
    non-fiction
    """.split()
)

# Three letters that WordNet lists (notes of the scale, letters of alphabets, units, names) but few would call words.
SHORT_JUNK = frozenset(
    """
    lee cox ben jay ira mac wen eta sen chi gen nee lah ana den pct roc fin opt das dah pol zee doh sol nan roe phi
    col gam fay meg tam bam mei bur lei aba lea wye dal hao tun lev soh gan tor ain tau kat lac kos bey baa ala hoy
    ken ron rob ted sam las les des der don lin pat ray leo con min mar sec sur wan var ump yin doc rus lat
    """.split()
)

# WordNet verbs that running text uses as something else: names, nouns, prepositions, the past of "see".
NOT_VERBS = frozenset("bob don harry jimmy jack gore institute like saw panel telescope garland mastermind".split())
