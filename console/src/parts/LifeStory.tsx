import Box from "@cloudscape-design/components/box";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import type { LifeStory as Story } from "../api/types";
import { visible } from "../text/visible";
import { CallerChain } from "./CallerChain";

/** Who created, changed and deleted a resource or a principal, and the original caller. */
export function LifeStory({ story }: { story: Story }): ReactNode {
  const { sentences, maker, former } = story;
  return (
    <Container header={<Header variant="h2">Life story</Header>}>
      <SpaceBetween size="s">
        {sentences.map((sentence, index) => (
          <Box key={index} variant={index === 0 ? "h3" : "p"}>
            <span className="wrap">{visible(sentence)}</span>
          </Box>
        ))}
        {!sentences.length && <Box color="text-body-secondary">No event created, changed or deleted it.</Box>}
        {maker && <CallerChain event={maker} />}
        {former.length > 0 && (
          <div>
            <Box variant="awsui-key-label">Former resources of this name</Box>
            <ul>
              {former.map((life, index) => (
                <li key={index} className="wrap">
                  {life.map(visible).join(". ")}.
                </li>
              ))}
            </ul>
          </div>
        )}
      </SpaceBetween>
    </Container>
  );
}
