/** Times are shown in one zone, UTC unless the reader chose another; the server has UTC only. */

export type Zone = string;

export const UTC: Zone = "UTC";

const cache = new Map<string, Intl.DateTimeFormat>();

function format(zone: Zone, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = zone + JSON.stringify(options);
  let found = cache.get(key);
  if (!found) {
    found = new Intl.DateTimeFormat("en-US", { ...options, timeZone: zone });
    cache.set(key, found);
  }
  return found;
}

export function isZone(zone: string): boolean {
  try {
    return Boolean(format(zone, { hour: "numeric" }));
  } catch {
    return false;
  }
}

export function browserZone(): Zone {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || UTC;
}

/** What column headers call the zone, such as `UTC` or `Europe/Berlin`. */
export function zoneName(zone: Zone): string {
  return zone.replaceAll("_", " ");
}

const PARTS: Intl.DateTimeFormatOptions = {
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
};

function parts(time: Date, zone: Zone): Record<string, string> {
  return Object.fromEntries(format(zone, PARTS).formatToParts(time).map(({ type, value }) => [type, value]));
}

/** `2020-01-01 09:00:00` */
export function stamp(time: string | number | Date | null | undefined, zone: Zone): string {
  if (time === null || time === undefined) return "–";
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return String(time);
  const p = parts(date, zone);
  return `${p.year}-${p.month}-${p.day} ${p.hour}:${p.minute}:${p.second}`;
}

/** What happened and when, with the name of the zone. */
export function spoken({ eventTime, sentence, clause }: { eventTime: string; sentence: string; clause: string }, zone: Zone): string {
  if (zone === UTC || sentence === clause) return sentence;
  const time = new Date(eventTime);
  const date = format(zone, { year: "numeric", month: "long", day: "numeric" }).format(time);
  const clock = format(zone, { hour: "numeric", minute: "2-digit" }).format(time).replace("\u202f", " ");
  return `On ${date} at ${clock} (${zoneName(zone)}), ${clause}`;
}

/** `09:00` within a day, `Jan 1 09:00` within a year, else `Jan 1, 2020`. */
export function tick(time: number, span: number, zone: Zone): string {
  const day = 86_400_000;
  const options: Intl.DateTimeFormatOptions =
    span <= day
      ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }
      : span <= 7 * day
        ? { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }
        : span <= 300 * day
          ? { month: "short", day: "numeric" }
          : { month: "short", year: "numeric" };
  return format(zone, options).format(time);
}

/** The minutes that a zone is ahead of UTC at a time; they differ across daylight saving. */
export function offsetMinutes(time: Date, zone: Zone): number {
  const p = parts(time, zone);
  const local = Date.UTC(Number(p.year), Number(p.month) - 1, Number(p.day), Number(p.hour), Number(p.minute), Number(p.second));
  return Math.round((local - Math.floor(time.getTime() / 1000) * 1000) / 60_000);
}

const SPANS: [number, string][] = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
  [1, "s"],
];

/** `3 s`, `5 min`, `2 h`, `4 d` */
export function span(seconds: number): string {
  const length = Math.abs(seconds);
  const [unit, name] = SPANS.find(([size]) => length >= size) ?? [1, "s"];
  return `${Math.round(length / unit)} ${name}`;
}

/** `5 min ago`, `in 2 h` */
export function ago(time: string | null | undefined, now: number = Date.now()): string {
  if (!time) return "never";
  const seconds = (now - Date.parse(time)) / 1000;
  if (Math.abs(seconds) < 1) return "just now";
  return seconds > 0 ? `${span(seconds)} ago` : `in ${span(seconds)}`;
}

export function number(value: number): string {
  return new Intl.NumberFormat("en-US").format(value);
}

/** A rate in words: `10 a minute`, `1 an hour`. */
export function perMinute(value: number): string {
  return value > 0 && value < 0.5 ? `${rate(value * 60)} an hour` : `${rate(value)} a minute`;
}

/** A rate with at most three figures, such as `0.0167` or `40`. */
export function rate(value: number): string {
  return new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 }).format(value);
}

/** Reads `2020-01-01 09:00:00`, or a part of it, in a zone; null if it is not a time. The end of a day if asked. */
export function fromZone(text: string, zone: Zone, isEnd: boolean): string | null {
  const found = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?Z?$/.exec(text.trim());
  if (!found) return null;
  const [, year, month, day, hour, minute, second] = found;
  const isDay = hour === undefined;
  const wall = Date.UTC(
    Number(year),
    Number(month) - 1,
    Number(day),
    Number(hour ?? (isEnd ? 23 : 0)),
    Number(minute ?? (isDay && isEnd ? 59 : 0)),
    Number(second ?? (isDay && isEnd ? 59 : 0)),
  );
  if (new Date(wall).getUTCDate() !== Number(day) || Number(month) > 12) return null;
  const guess = wall - offsetMinutes(new Date(wall), zone) * 60_000;
  const time = wall - offsetMinutes(new Date(guess), zone) * 60_000;
  return new Date(time).toISOString().replace(/\.\d+Z$/, "Z");
}
