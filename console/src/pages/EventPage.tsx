import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import ContentLayout from "@cloudscape-design/components/content-layout";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import type { ReactNode } from "react";
import { usePreferences } from "../app/preferences";
import { follow, href, navigate } from "../app/router";
import { Copy } from "../parts/Copy";
import { EventHeading, EventTabs, useEvent } from "../parts/EventView";
import { FoundBy } from "../parts/FoundBy";
import { Problem } from "../parts/Problem";
import { spoken } from "../text/time";

export default function EventPage({ parameter }: { parameter: string }): ReactNode {
  const { zone } = usePreferences();
  const { data, error, loading, reload } = useEvent(parameter);
  if (!data) {
    return (
      <SpaceBetween size="m">
        <Header variant="h1">Event</Header>
        {loading && <Spinner />}
        <Problem
          error={error}
          what={error?.status === 404 ? "There is no event with this ID" : "The event could not be loaded"}
          onRetry={reload}
        />
      </SpaceBetween>
    );
  }
  return (
    <ContentLayout
      header={
        <Header variant="h1">
          <EventHeading event={data.event} />
        </Header>
      }
    >
      <Container
        header={
          <Header
            variant="h2"
            actions={
              <SpaceBetween direction="horizontal" size="xs">
                <Copy label="Copy the sentence" text={() => spoken(data.event, zone)}>
                  Copy sentence
                </Copy>
                <Button href={href("/events", { event: data.event.eventId })} onFollow={follow}>
                  Event history
                </Button>
              </SpaceBetween>
            }
          >
            Details
          </Header>
        }
      >
        <FoundBy eventId={data.event.eventId} />
        <EventTabs detail={data} onOpen={(id) => navigate(href(`/events/${encodeURIComponent(id)}`))} />
      </Container>
    </ContentLayout>
  );
}
