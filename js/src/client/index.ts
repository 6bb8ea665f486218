/** The browser client of sisock: connect, discover the nodes, read and follow their data. */

export type { Access } from "./attempt";
export { type Block, EMPTY, extended, type Line, lineOf, lowerBound, newest, since, type Value } from "./block";
export type { Catalogue, Field, FieldType, Timeline } from "./catalogue";
export { Connection, type State } from "./connection";
export { type DataNode, Discovery } from "./discovery";
export { isPassing, NOT_CONNECTED, SisockError, TIMED_OUT, TOO_MUCH, UNKNOWN_NODE } from "./errors";
export { type Followed, Following, type Resume } from "./following";
export { FollowingSource } from "./following-source";
export { threshold, withGaps } from "./gaps";
export { groupBy } from "./group";
export { Listeners, type Stop } from "./listeners";
export { earliest, type Position } from "./position";
export { type Follow, type Follower, PollingSource, type Reading, type Sample, type Source, type Span } from "./source";
export { REALM } from "./uris";
