import fc from "fast-check";
import { expect, test } from "vitest";
import { fromZone, offsetMinutes, perMinute, spoken, stamp } from "../src/text/time";

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
