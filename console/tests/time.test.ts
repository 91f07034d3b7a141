import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromZone, offsetMinutes, perMinute, roundTimes, spoken, stamp, tick } from "../src/text/time";

test("summer and winter time", () => {
  expect(stamp("2026-03-29T00:59:59Z", "Europe/Berlin")).toBe("2026-03-29 01:59:59");
  expect(stamp("2026-03-29T01:00:00Z", "Europe/Berlin")).toBe("2026-03-29 03:00:00");
  expect(offsetMinutes(new Date("2026-10-25T00:59:59Z"), "Europe/Berlin")).toBe(120);
  expect(offsetMinutes(new Date("2026-10-25T01:00:00Z"), "Europe/Berlin")).toBe(60);
});

test("what is shown in a zone is read back as the same time, but for the repeated hour", () => {
  const zones = fc.constantFrom("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe");
  const times = fc.date({ min: new Date("2000-01-01"), max: new Date("2040-01-01"), noInvalidDate: true });
  fc.assert(
    fc.property(zones, times, (zone, time) => {
      const shown = stamp(time, zone);
      const read = fromZone(shown, zone, false);
      expect(stamp(read, zone)).toBe(shown);
    }),
  );
});

test("a date is its first or its last second", () => {
  expect(fromZone("2020-01-01", "UTC", false)).toBe("2020-01-01T00:00:00Z");
  expect(fromZone("2020-01-01", "Europe/Berlin", true)).toBe("2020-01-01T22:59:59Z");
  expect([fromZone("2020-02-30", "UTC", false), fromZone("soon", "UTC", false)]).toEqual([null, null]);
});

test("rates are in the unit that people use", () => {
  expect([perMinute(10), perMinute(1 / 60), perMinute(0)]).toEqual(["10 a minute", "1 an hour", "0 a minute"]);
});

test("the sentence of an event is in the reader's zone, which is named unless it is UTC", () => {
  const clause = "IAM user John created IAM user Mary";
  const event = { eventTime: "2020-01-01T09:00:00Z", sentence: `On January 1, 2020 at 9:00 AM UTC, ${clause}`, clause };
  expect(spoken(event, "UTC")).toBe(event.sentence);
  expect(spoken(event, "Europe/Berlin")).toBe(`On January 1, 2020 at 10:00 AM (Europe/Berlin), ${clause}`);
  expect(spoken(event, "America/New_York")).toBe(`On January 1, 2020 at 4:00 AM (America/New York), ${clause}`);
});

describe("round times", () => {
  const zones = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia"];
  const start = fc.integer({ min: Date.UTC(2019, 0, 1), max: Date.UTC(2027, 0, 1) });
  const length = fc.integer({ min: 60_000, max: 3 * 365 * 86_400_000 });

  test("lie between the ends, in order, and are no more than asked for", () => {
    fc.assert(
      fc.property(start, length, fc.constantFrom(...zones), fc.integer({ min: 1, max: 12 }), (from, span, zone, most) => {
        const times = roundTimes(from, from + span, zone, most);
        expect(times.length).toBeLessThanOrEqual(most + 2);
        expect(times.every((time) => time >= from && time < from + span)).toBe(true);
        expect(times.toSorted((a, b) => a - b)).toEqual(times);
      }),
    );
  });

  test("are full minutes, hours, midnights and first days of months of the zone", () => {
    const shown = (from: string, to: string, zone: string, most: number): string[] =>
      roundTimes(Date.parse(from), Date.parse(to), zone, most).map((time) => tick(time, zone));
    expect(shown("2020-01-01T09:02:00Z", "2020-01-01T09:31:00Z", "UTC", 8)).toEqual(["09:05", "09:10", "09:15", "09:20", "09:25", "09:30"]);
    expect(shown("2020-01-01T13:00:00Z", "2020-01-02T13:00:00Z", "UTC", 5)).toEqual(["18:00", "Jan 2", "06:00", "12:00"]);
    expect(shown("2019-12-30T13:00:00Z", "2020-01-03T13:00:00Z", "UTC", 8)).toEqual(["Dec 31", "12:00", "2020", "12:00", "Jan 2", "12:00", "Jan 3", "12:00"]);
    expect(shown("2020-03-28T00:00:00Z", "2020-03-31T12:00:00Z", "Europe/Berlin", 4)).toEqual(["Mar 29", "Mar 30", "Mar 31"]);
    expect(shown("2020-01-20T00:00:00Z", "2021-02-10T00:00:00Z", "UTC", 6)).toEqual(["Apr 1", "Jul 1", "Oct 1", "2021"]);
  });
});
