import { fireEvent, render, screen, waitFor } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import type { Proof, ProofState, Proofs, TrailSummary } from "../src/api/types";
import { connection } from "../src/api/client";
import { navigate } from "../src/app/router";
import Dashboard from "../src/pages/Dashboard";
import { EventTabs } from "../src/parts/EventView";
import { overall } from "../src/parts/ProofView";
import { AN_EVENT } from "./factories";

const KEY = "AWSLogs/123456789012/CloudTrail/us-east-1/2020/01/01/x.json.gz";

function proof(state: ProofState, trail = "my-trail"): Proof {
  return { trail, arn: `arn:${trail}`, state, message: `It is ${state}.`, bucket: "b", key: KEY, digestKey: null, fault: null };
}

let proofs: Proofs;
let trails: Partial<TrailSummary>[];
let asked: string[];

beforeEach(() => {
  asked = [];
  trails = [];
  proofs = { trails: [proof("proven")], imported: false };
  vi.stubGlobal("fetch", async (address: string) => {
    const path = new URL(address, "http://127.0.0.1").pathname.replace("/api/v1/", "");
    asked.push(path);
    const answers: Record<string, unknown> = {
      "events/e-1/proof": proofs,
      trails: { trails },
      health: { status: "ok", degradations: [], recorded: 1, visible: 1, freshness: { p50Ms: 1, p99Ms: 1 }, events: 1 },
    };
    return path in answers ? Response.json(answers[path]) : Response.json({ code: "NotFound", error: "not here" }, { status: 404 });
  });
  navigate("/console/events/e-1");
  connection.report("ok");
});

function show(): void {
  render(<EventTabs detail={{ event: AN_EVENT, record: "{}" }} onOpen={() => undefined} />);
}

test("the proof is made when its tab is opened, and its badge stays", async () => {
  show();
  expect(asked).toEqual([]);
  fireEvent.click(screen.getByRole("tab", { name: "Proof" }));
  expect(await screen.findByText("It is proven.")).toBeTruthy();
  expect(screen.getByText(`s3://b/${KEY}`)).toBeTruthy();
  fireEvent.click(screen.getByRole("tab", { name: "Summary" }));
  expect(await screen.findByRole("button", { name: "Proof: Proven" })).toBeTruthy();
  expect(asked.filter((path) => path.endsWith("/proof"))).toHaveLength(1);
});

test("a broken proof is worse than another trail's good one, and says so without a colour", async () => {
  proofs = { trails: [proof("proven"), proof("broken", "other")], imported: false };
  navigate("/console/events/e-1?tab=proof");
  show();
  expect((await screen.findByRole("button", { name: "Proof: Broken" })).textContent).toContain("⚠ Broken");
  const sections = screen.getAllByRole("region").map(({ textContent }) => textContent);
  expect(sections[0]).toContain("⚠ Brokenother");
  expect(sections[1]).toContain("◈ Proven");
  expect(overall([])).toBeNull();
  expect(overall([proof("pending"), proof("unsigned"), proof("unknown")])).toBe("pending");
});

test("an event that no trail delivers says why", async () => {
  proofs = { trails: [], imported: true };
  navigate("/console/events/e-1?tab=proof");
  show();
  expect(await screen.findByText(/This event was imported/)).toBeTruthy();
});

test("the dashboard begins with broken proofs: trail, file and reason", async () => {
  const findings = Array.from({ length: 7 }, (_, number) => ({ name: `s3://b/log-${number}`, reason: "hash value doesn't match", event: null }));
  trails = [
    { arn: "arn:bad", name: "bad", status: "Logging", verified: { at: AN_EVENT.eventTime, valid: false, findings, more: 1 } },
    { arn: "arn:good", name: "good", status: "Logging", verified: { at: AN_EVENT.eventTime, valid: true, findings: [], more: 0 } },
  ];
  navigate("/console/");
  const { container } = render(<Dashboard />);
  const alert = await screen.findByText(/Broken proof: files of trail bad/);
  expect(screen.queryByText(/files of trail good/)).toBeNull();
  await waitFor(() => expect(container.textContent).toContain("s3://b/log-4: hash value doesn't match"));
  expect(container.textContent).toContain("and 3 more");
  expect(screen.getByRole("link", { name: "Integrity" }).getAttribute("href")).toBe("/console/integrity");
  const health = screen.getByRole("heading", { name: "Recording" });
  expect(alert.compareDocumentPosition(health) & Node.DOCUMENT_POSITION_FOLLOWING).toBeTruthy();
});
