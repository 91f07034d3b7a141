import createWrapper from "@cloudscape-design/components/test-utils/dom";
import { act, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { connection } from "../src/api/client";
import type { IncidentDetail } from "../src/api/types";
import { navigate } from "../src/app/router";
import Insight, { minuteRows } from "../src/pages/Insight";
import { csv } from "../src/parts/download";
import cells from "./cells.json";

const START = Date.UTC(2026, 0, 1, 9);
const minute = (offset: number) => new Date(START + offset * 60_000).toISOString().replace(".000", "");
const INCIDENT: IncidentDetail = {
  id: "i-1",
  start: minute(0),
  end: minute(3),
  sentence: "IAM user <John> called DeleteUser 40 times a minute",
  eventName: "=HYPERLINK(1)",
  eventSource: 'iam,"x".amazonaws.com',
  insightType: "ApiCallRateInsight",
  errorCode: null,
  baseline: 1.5,
  average: 40,
  expected: null,
  state: "over",
  account: "123456789012",
  region: "us-east-1",
  identity: null,
  sourceIPAddress: null,
  extension: null,
  from: minute(-60),
  until: minute(33),
  minutes: [-2_000, -1, 0, 1, 2].map((offset) => [minute(offset), Math.abs(offset)]),
  record: {},
};

let files: { name: string; content: Promise<string> }[];
const original = { create: URL.createObjectURL, revoke: URL.revokeObjectURL };

beforeEach(() => {
  files = [];
  const blobs: Blob[] = [];
  URL.createObjectURL = (blob) => `blob:${blobs.push(blob as Blob) - 1}`;
  URL.revokeObjectURL = () => undefined;
  vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
    const blob = blobs[Number(this.href.replace("blob:", ""))];
    if (blob) files.push({ name: this.download, content: new Promise((done) => reading(blob, done)) });
  });
  vi.stubGlobal("fetch", async () => Response.json(INCIDENT));
  navigate("/console/insights/i-1");
  connection.report("ok");
});

afterEach(() => {
  Object.assign(URL, { createObjectURL: original.create, revokeObjectURL: original.revoke });
  vi.restoreAllMocks();
});

function reading(blob: Blob, done: (text: string) => void): void {
  const reader = new FileReader();
  reader.onload = () => done(String(reader.result));
  reader.readAsText(blob);
}

async function download(form: string): Promise<{ name: string; content: string }> {
  const { container } = render(<Insight parameter="i-1" />);
  await screen.findByText("Download", {}, { timeout: 60_000 });
  const menu = createWrapper(container)
    .findAllButtonDropdowns()
    .find((dropdown) => dropdown.getElement().textContent?.includes("Download"));
  act(() => menu?.openDropdown());
  act(() => menu?.findItemById(form)?.click());
  const file = files.at(-1);
  if (!file) throw new Error("nothing was saved");
  return { name: file.name, content: await file.content };
}

test("the CSV has the minutes that are shown, and no formula", async () => {
  const { name, content } = await download("csv");
  expect(name).toBe("insight-20260101T0900-3h.csv");
  const labels = `"iam,""x"".amazonaws.com",'=HYPERLINK(1),`;
  expect(content.split("\r\n")).toEqual([
    "minute,calls,baseline,eventSource,eventName,errorCode",
    `${minute(-1)},1,1.5,${labels}`,
    `${minute(0)},0,1.5,${labels}`,
    `${minute(1)},1,1.5,${labels}`,
    `${minute(2)},2,1.5,${labels}`,
    "",
  ]);
  expect(minuteRows(INCIDENT, [], 60_000)).toHaveLength(1);
}, 120_000);

test("the SVG is a drawing of its own, with a title and no class of the page", async () => {
  const { name, content } = await download("svg");
  expect(name).toBe("insight-20260101T0900-3h.svg");
  const drawing = new DOMParser().parseFromString(content, "image/svg+xml");
  expect(drawing.querySelector("parsererror")).toBeNull();
  expect(drawing.documentElement.tagName).toBe("svg");
  expect(drawing.querySelector("title")?.textContent).toBe(INCIDENT.sentence);
  expect(drawing.querySelectorAll("[class], script").length).toBe(0);
  expect(drawing.querySelectorAll("rect").length).toBeGreaterThan(3);
}, 120_000);

test.each(["=1", "+1", "-1", "@x"])("%j is no formula in a cell", (text) => {
  expect(csv([[text, -1, null]]).replaceAll('"', "")).toBe(`'${text},-1,\r\n`);
});

test("cells are escaped as in the server's CSV", () => {
  for (const [value, line] of cells) expect(csv([[value as string | null, 1]])).toBe(line);
});
