//! The ids of account names, cached. A name's id never changes within a ledger. After a failover that lost commits or a
//! restored backup, a cached id may be wrong; so the names are compared when the accounts are locked.

use crate::error::before_commit;
use std::collections::HashMap;

use quick_cache::sync::Cache;
use tokio_postgres::Client;

use settled_core::contract::AccountName;
use settled_pipeline::store::StoreError;

/// Gives new names ids, in the order of the names so that two daemons do not deadlock. The ids are cached, so the
/// commit has to be durable whatever the session's settings are.
const INTERN: &str = r#"
    WITH durable AS (
        SELECT set_config('synchronous_commit', 'on', true)
         WHERE current_setting('synchronous_commit') IN ('off', 'local'))
    INSERT INTO account (name)
    SELECT name FROM unnest($1::text[]) AS n(name) WHERE (SELECT count(*) FROM durable) >= 0 ORDER BY name COLLATE "C"
    ON CONFLICT (name) DO NOTHING"#;

const LOOK_UP: &str = "SELECT name, id FROM account WHERE name = ANY($1::text[])";

/// A cache of account ids.
pub(super) struct Names {
    remembered: Cache<AccountName, i64>,
}

impl Names {
    /// Creates a cache for up to `capacity` names.
    pub(super) fn new(capacity: usize) -> Self {
        Self { remembered: Cache::new(capacity) }
    }

    /// Returns the ids of `names`, in the same order.
    pub(super) async fn ids(&self, client: &Client, names: &[&AccountName]) -> Result<Vec<i64>, StoreError> {
        let mut ids: Vec<Option<i64>> = names.iter().map(|name| self.remembered.get(*name)).collect();
        if ids.contains(&None) {
            let unknown: Vec<&str> =
                names.iter().zip(&ids).filter(|(_, id)| id.is_none()).map(|(name, _)| name.as_str()).collect();
            let found = look_up(client, &unknown).await?;
            for (name, id) in names.iter().zip(&mut ids).filter(|(_, id)| id.is_none()) {
                *id = found.get(name.as_str()).copied();
                if let Some(id) = *id {
                    self.remembered.insert((*name).clone(), id);
                }
            }
        }
        let all: Option<Vec<i64>> = ids.into_iter().collect();
        all.ok_or_else(|| StoreError::Broken("a name has no id right after it was given one".into()))
    }

    /// Drops these names from the cache.
    pub(super) fn forget(&self, names: &[&AccountName]) {
        for name in names {
            self.remembered.remove(*name);
        }
    }
}

/// Reads ids and creates missing ones. It commits at once, outside the batch's transaction: only then may an id be
/// cached.
async fn look_up(client: &Client, names: &[&str]) -> Result<HashMap<String, i64>, StoreError> {
    let select = async || -> Result<HashMap<String, i64>, StoreError> {
        let rows = client.query_typed(LOOK_UP, &[(&names, tokio_postgres::types::Type::TEXT_ARRAY)]).await;
        Ok(rows.map_err(before_commit)?.iter().map(|row| (row.get("name"), row.get("id"))).collect())
    };
    let mut found = select().await?;
    let new: Vec<&str> = names.iter().copied().filter(|name| !found.contains_key(*name)).collect();
    if !new.is_empty() {
        let insert = client.execute_typed(INTERN, &[(&new, tokio_postgres::types::Type::TEXT_ARRAY)]).await;
        insert.map_err(before_commit)?;
        found = select().await?;
    }
    Ok(found)
}
