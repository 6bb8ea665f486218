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
