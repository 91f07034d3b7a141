import { fireEvent, render, screen } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import { TimeChart } from "../src/parts/TimeChart";

const HOUR = 3_600_000;
const START = Date.UTC(2020, 0, 1);
const points = [1, 2, 0, 4].map((value, index) => ({ time: START + index * HOUR, values: [value, index] }));
const series = [
  { name: "Succeeded", tone: "normal" as const },
  { name: "Failed", tone: "bad" as const },
];

function chart(onSelect: (start: number, end: number) => void): HTMLElement {
  render(<TimeChart label="Events" points={points} step={HOUR} series={series} zone="UTC" onSelect={onSelect} />);
  return screen.getByRole("group", { name: "Events" });
}

test("the keyboard selects a period and narrows to it", () => {
  const onSelect = vi.fn();
  const group = chart(onSelect);
  fireEvent.keyDown(group, { key: "ArrowRight" });
  fireEvent.keyDown(group, { key: "ArrowRight" });
  fireEvent.keyDown(group, { key: "ArrowRight", shiftKey: true });
  expect(screen.getByText(/2020-01-01 02:00:00: 0 succeeded, 2 failed/)).toBeTruthy();
  fireEvent.keyDown(group, { key: "Enter" });
  expect(onSelect).toHaveBeenCalledExactlyOnceWith(START + HOUR, START + 3 * HOUR);
});

test("Escape gives the selection up", () => {
  const onSelect = vi.fn();
  const group = chart(onSelect);
  fireEvent.keyDown(group, { key: "ArrowLeft", shiftKey: true });
  fireEvent.keyDown(group, { key: "Escape" });
  fireEvent.keyDown(group, { key: "Enter" });
  expect(onSelect).not.toHaveBeenCalled();
});

test("the table narrows without a pointer or keys", () => {
  const onSelect = vi.fn();
  const { container } = (chart(onSelect), { container: document.body });
  const details = container.querySelector("details") as HTMLDetailsElement;
  details.open = true;
  fireEvent(details, new Event("toggle"));
  fireEvent.click(screen.getAllByRole("button", { name: "Narrow to this" })[1] as HTMLElement);
  expect(onSelect).toHaveBeenCalledExactlyOnceWith(START + HOUR, START + 2 * HOUR);
});
