import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import { Component, type ReactNode } from "react";
import { visible } from "../text/visible";

/** Shows that a page failed, and leaves the navigation usable. */
export class ErrorBoundary extends Component<{ children: ReactNode; name: string }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error): { error: Error } {
    return { error };
  }

  override render(): ReactNode {
    const { error } = this.state;
    if (!error) return this.props.children;
    return (
      <Alert
        type="error"
        header={`${this.props.name} cannot be shown`}
        action={<Button onClick={() => this.setState({ error: null })}>Try again</Button>}
      >
        {visible(error.message)}. If this page was open while opentrail was updated, reload it.
      </Alert>
    );
  }
}
