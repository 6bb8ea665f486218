/** Names on the wire, as `sisock.uris` has them. */

export const BASE_URI = "org.simonsobservatory";
export const REALM = "sisock";

export const GET_DATA_NODE = `${BASE_URI}.consumer.get_data_node`;
export const ADDED = `${BASE_URI}.consumer.data_node_added`;
export const SUBTRACTED = `${BASE_URI}.consumer.data_node_subtracted`;

/** Procedure that answers a node's fields and timelines. */
export function getFields(node: string): string {
  return `${BASE_URI}.consumer.${node}.get_fields`;
}

/** Procedure that answers a node's data. */
export function getData(node: string): string {
  return `${BASE_URI}.consumer.${node}.get_data`;
}

/** Topic of one timeline's live blocks; the timeline is percent-encoded to a single component. */
export function live(node: string, timeline: string): string {
  const part = encodeURIComponent(timeline).replace(
    /[.!~*'()]/g,
    (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `${BASE_URI}.consumer.${node}.data.${part}`;
}
