"""Rules in order: broken source in, possible repairs out. Which one holds, compiling decides."""

from __future__ import annotations

from pyrepl3.lang.repairs import foreign, layout, pairs, paste, python2, slips, typography
from pyrepl3.lang.repairs.broken import FILENAME, Broken, Edit, Edits, Find

__all__ = ["FILENAME", "RULES", "SURROUNDINGS", "Broken", "Edit", "Edits", "Find"]

# What surrounds the code comes off first: nothing else can be read before.
SURROUNDINGS: tuple[Find, ...] = (
    paste.terminal_colours,
    paste.fences,
    paste.wrapper_tags,
    paste.copy_button,
    paste.prompts,
    paste.line_numbers,
    paste.diff_markers,
    paste.json_escapes,
    paste.entities,
)
RULES: tuple[Find, ...] = (
    *SURROUNDINGS,
    # Single characters: they hide tokens.
    typography.invisible,
    typography.spaces,
    typography.typographic,
    # Quotes before brackets before layout: each hides what the next needs.
    pairs.unicode_escape,
    pairs.inner_quotes,
    pairs.open_string,
    pairs.open_triple,
    pairs.fstring_braces,
    pairs.backslash,
    # Words and signs that are no Python.
    foreign.comments,
    foreign.logical_operators,
    foreign.increment,
    foreign.else_if,
    foreign.foreach,
    foreign.function_word,
    foreign.exceptions,
    foreign.declaration,
    foreign.new_object,
    foreign.dollar,
    foreign.walrus_statement,
    layout.braces,
    foreign.arrow_function,
    foreign.ternary,
    foreign.named_arguments,
    # Python 2.
    python2.print_statement,
    python2.exec_statement,
    python2.except_comma,
    python2.raise_comma,
    python2.backticks,
    python2.diamond,
    python2.old_number,
    python2.ur_prefix,
    # Slips.
    slips.equals_in_condition,
    slips.split_operator,
    slips.import_order,
    slips.keyword_as_name,
    slips.global_assignment,
    slips.future_import,
    slips.async_def,
    slips.question,
    slips.misspelled_keyword,
    pairs.missing_comma,
    pairs.mismatched_closer,
    pairs.extra_closer,
    # Blocks and their headers.
    layout.header_end,
    layout.def_parentheses,
    layout.missing_def,
    layout.missing_colon,
    pairs.unclosed_bracket,
    layout.broken_line,
    # Indentation: where nothing else explains the error.
    paste.common_indent,
    layout.tabs,
    layout.missing_body,
    layout.unmatched_dedent,
    layout.stray_clause,
    layout.unexpected_indent,
    # Words among the code.
    paste.placeholder,
    paste.prose,
)
