/** Displays times in one zone, UTC unless the user chose another; the server uses only UTC. */

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

/** A sentence with its time in the zone, and the zone's name. */
export function spoken({ eventTime, sentence, clause }: { eventTime: string; sentence: string; clause: string }, zone: Zone): string {
  if (zone === UTC || sentence === clause) return sentence;
  const time = new Date(eventTime);
  const date = format(zone, { year: "numeric", month: "long", day: "numeric" }).format(time);
  const clock = format(zone, { hour: "numeric", minute: "2-digit" }).format(time).replace("\u202f", " ");
  return `On ${date} at ${clock} (${zoneName(zone)}), ${clause}`;
}

/** The shortest form of a round time: `09:00`, `Jan 2` for a midnight, `2021` for the first of a year. */
export function tick(time: number, zone: Zone): string {
  const p = parts(new Date(time), zone);
  if (p.hour !== "00" || p.minute !== "00") return `${p.hour}:${p.minute}`;
  if (p.month === "01" && p.day === "01") return String(p.year);
  return format(zone, { month: "short", day: "numeric" }).format(time);
}

const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;
const ROUND = [1, 5, 15, 30, 60, 180, 360, 720, 1_440, 2 * 1_440, 7 * 1_440, 14 * 1_440].map((minutes) => minutes * MINUTE);
const MONTHS = [1, 3, 6, 12, 60, 120];

/** Round times in a zone between two times, up to a maximum: full hours, midnights, first days of months. */
export function roundTimes(start: number, end: number, zone: Zone, most: number): number[] {
  const length = end - start;
  if (!(length > 0) || most < 1) return [];
  const every = ROUND.find((step) => length / step <= most);
  if (every) return roundSteps(start, end, zone, every);
  const months = MONTHS.find((count) => length / (count * 30 * DAY) <= most) ?? MONTHS.at(-1) ?? 1;
  return firstDays(start, end, zone, months);
}

function roundSteps(start: number, end: number, zone: Zone, every: number): number[] {
  const found: number[] = [];
  const ahead = offsetMinutes(new Date(start), zone) * MINUTE;
  for (let wall = Math.ceil((start + ahead) / every) * every; ; wall += every) {
    const time = fromWall(wall, zone);
    if (time >= end) return found;
    if (time >= start) found.push(time);
  }
}

function firstDays(start: number, end: number, zone: Zone, months: number): number[] {
  const found: number[] = [];
  const from = new Date(start + offsetMinutes(new Date(start), zone) * MINUTE);
  const first = Math.floor((from.getUTCFullYear() * 12 + from.getUTCMonth()) / months) * months;
  for (let month = first; ; month += months) {
    const time = fromWall(Date.UTC(Math.floor(month / 12), month % 12), zone);
    if (time >= end) return found;
    if (time >= start) found.push(time);
  }
}

/** The time when clocks in a zone show the same as UTC clocks at `wall`. */
function fromWall(wall: number, zone: Zone): number {
  const guess = wall - offsetMinutes(new Date(wall), zone) * MINUTE;
  return wall - offsetMinutes(new Date(guess), zone) * MINUTE;
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

/** Reads `2020-01-01 09:00:00`, or a part of it, in a zone; null if it is not a time. Optionally the end of a day. */
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
  return new Date(fromWall(wall, zone)).toISOString().replace(/\.\d+Z$/, "Z");
}
