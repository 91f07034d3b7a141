import Box from "@cloudscape-design/components/box";
import type { ReactNode } from "react";
import type { ValueCount } from "../api/types";
import { number } from "../text/time";
import { visible } from "../text/visible";

/** Values with their counts and a bar of their share; a click on one searches for it. */
export function ValueList({ values, onPick }: { values: ValueCount[]; onPick?: (value: string) => void }): ReactNode {
  const most = Math.max(...values.map(({ count }) => count), 1);
  if (!values.length) return <Box color="text-body-secondary">None</Box>;
  return (
    <>
      {values.map(({ value, count }) => (
        <div key={value}>
          <div className="value">
            <span className="wrap">
              {onPick ? (
                <button type="button" className="plain" onClick={() => onPick(value)}>
                  {visible(value) || "(empty)"}
                </button>
              ) : (
                visible(value) || "(empty)"
              )}
            </span>
            <span className="numbers">{number(count)}</span>
          </div>
          <span className="proportion" style={{ width: `${Math.max((100 * count) / most, 1)}%` }} />
        </div>
      ))}
    </>
  );
}
