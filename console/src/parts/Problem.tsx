import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import type { ReactNode } from "react";
import type { ApiError } from "../api/client";
import { visible } from "../text/visible";

/** An error of a call: what failed, the server's words, its request id, and a way to try again. */
export function Problem({ error, what, onRetry }: { error: ApiError | null; what: string; onRetry?: () => void }): ReactNode {
  // The top of the page shows that the session or the server is missing.
  if (!error || error.code === "Unreachable" || error.code === "NoSession") return null;
  return (
    <Alert type="error" header={what} action={onRetry && <Button onClick={onRetry}>Try again</Button>}>
      {visible(error.message)} ({visible(error.code)}
      {error.requestId && `, request ${visible(error.requestId)}`})
    </Alert>
  );
}
