/** Text from records may be hostile, so invisible and reordering characters are shown as escapes. */

// Controls, soft hyphen, bidirectional marks and overrides, zero-width and invisible characters, tags.
const HIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]|[\u{e0000}-\u{e0fff}]|[\ud800-\udfff]/gu;

export function visible(text: string): string {
  return text.replace(HIDDEN, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** Turns the escapes of `visible` back into the characters. */
export function hidden(text: string): string {
  return text.replace(/\\u(?:\{([0-9a-f]{5,6})\}|([0-9a-f]{4}))/g, (escape, long?: string, short?: string) => {
    const code = Number.parseInt(long ?? short ?? "", 16);
    if (code > 0x10ffff) return escape;
    const character = String.fromCodePoint(code);
    return visible(character) === escape ? character : escape;
  });
}

export function show(value: string | null | undefined): string {
  return value === null || value === undefined || value === "" ? "–" : visible(value);
}

/** Capitalizes words of the server, such as `role release`, to begin a sentence. */
export function capitalized(words: string): string {
  return words.replace(/^./u, (letter) => letter.toUpperCase());
}

/** A statement on one line, shortened. */
export function oneLine(statement: string): string {
  const line = statement.replace(/\s+/g, " ").trim();
  return line.length > 100 ? `${line.slice(0, 100)}…` : line;
}
