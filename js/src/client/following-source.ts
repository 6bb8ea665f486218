/** A source that follows by push where it can, and asks again and again where the node keeps no positions or lets the user only read. */

import { Following, type Link, type Resume } from "./following";
import type { Stop } from "./listeners";
import { toBlocks, toMicros } from "./rows";
import { type Caller, type Follow, type Follower, PollingSource } from "./source";

export class FollowingSource extends PollingSource {
  readonly #link: Link;
  // Timelines that are known not to be followed by push.
  readonly #without = new Set<string>();

  constructor(connection: Caller & Link, node: string) {
    super(connection, node);
    this.#link = connection;
  }

  override follow(timeline: string, fields: readonly string[], options: Follow, follower: Follower): Stop {
    if (this.#without.has(timeline)) return super.follow(timeline, fields, options, follower);
    const { position = null, since } = options;
    const resume: Resume | null = position === null ? null : { position, newest: toMicros(since) };
    const start = toMicros(resume === null ? since : (options.from ?? since));
    const following = new Following(this.#link, this.node, timeline, fields, start, resume, {
      deliver: ({ block, revises, position: reached, finalizedUntil }) => {
        for (const one of toBlocks(timeline, fields, block, revises, reached, finalizedUntil)) follower.block(one);
      },
      problem: (error) => follower.problem(error),
      gap: ({ reason }) => {
        if (follower.anew === undefined) return;
        following.stop();
        follower.anew(reason);
      },
      without: () => {
        this.#without.add(timeline);
        stop = super.follow(timeline, fields, options, follower);
      },
      ...(follower.anew === undefined ? {} : { tooMuch: () => follower.anew?.(null) }),
    });
    let stop: Stop = () => following.stop();
    return () => stop();
  }
}
