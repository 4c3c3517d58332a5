use proptest::prelude::*;

use crate::contract::{Properties, arbitrary, decode};

proptest! {
    #[test]
    fn any_task_comes_back_from_its_json_as_it_was(task in arbitrary::task()) {
        let json = task.to_json();
        let again = decode(json.as_bytes(), &Properties::default());
        prop_assert_eq!(again.as_ref(), Ok(&task), "{}", json);
        prop_assert_eq!(again.map(|again| again.to_json()), Ok(json), "canonical");
    }
}
