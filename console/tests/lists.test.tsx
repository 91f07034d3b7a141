import { render, screen } from "@testing-library/react";
import type { ReactNode } from "react";
import { expect, test, vi } from "vitest";
import { navigate } from "../src/app/router";
import Principals from "../src/pages/Principals";
import Resources from "../src/pages/Resources";

const PAGES: [string, () => ReactNode, string, string][] = [
  ["principals", Principals, "No principal has called yet.", "No principals match."],
  ["resources", Resources, "No recorded call has changed a resource yet.", "No resources match."],
];

function answer(status: number): void {
  const body = JSON.stringify(status === 200 ? { principals: [], resources: [], values: [], complete: true } : { code: "TimedOut", error: "too slow", requestId: "r-1" });
  vi.stubGlobal("fetch", async () => new Response(body, { status }));
}

test.each(PAGES)("a list of %s that could not be loaded is not called empty", async (name, Page, none, other) => {
  answer(504);
  navigate(`/console/${name}`);
  render(<Page />);
  await screen.findAllByText(/too slow/);
  expect(screen.queryByText(none)).toBeNull();
  expect(screen.queryByText(other)).toBeNull();
});

test.each(PAGES)("an empty list of %s of an account does not speak of all accounts", async (name, Page, none, other) => {
  answer(200);
  navigate(`/console/${name}?account=111122223333`);
  const { unmount } = render(<Page />);
  expect(await screen.findByText(other)).toBeTruthy();
  unmount();
  navigate(`/console/${name}`);
  render(<Page />);
  expect(await screen.findByText(none)).toBeTruthy();
});
